"""The commands that write, read and play recordings."""
