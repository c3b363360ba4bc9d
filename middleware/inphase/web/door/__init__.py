"""The page's door: where it listens, whom it lets in, and how many."""
