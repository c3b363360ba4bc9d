"""The cause of a late cycle: what was seen of the cycle thread's core, and what follows from it."""
