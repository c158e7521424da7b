"""A soak: many threads in several processes, short tokens, and faults at random, for hours."""
