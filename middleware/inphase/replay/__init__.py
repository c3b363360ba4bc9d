"""Recorded runs once more: published, stepped through, answered by another policy."""
