"""Emulated devices: they answer the true protocols on a pseudo-terminal and on loopback.

A process of its own (``python -m inphase_drivers.emulator SCHEDULE.toml``) that reads the
schedule's device tables and stands in for the devices it knows. The drivers do not know that
it is an emulator. It imports nothing of the middleware.
"""
