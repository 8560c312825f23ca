"""The real thing, killed at random from a seed: the same rows as if nothing had happened (``./do chaos``)."""
