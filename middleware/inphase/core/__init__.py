"""The C core as an object."""
