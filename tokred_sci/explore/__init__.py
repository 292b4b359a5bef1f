"""From a file at hand to an answer, without a program: what it is, what could be merged, and doing it."""
