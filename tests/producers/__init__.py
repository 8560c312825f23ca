"""Tests of what makes and feeds inputs."""
