"""Damiao motors in MIT mode on an emulated CAN bus."""
