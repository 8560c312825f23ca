"""One short program for each contender, written as its own documentation advises."""
