"""Tests of the sink, its tables and what reads them."""
