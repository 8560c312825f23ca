"""A fuzzer: every reader of the pipeline on valid, bent and hostile input, from a seed (./do fuzz --help)."""
