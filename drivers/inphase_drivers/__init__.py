"""Drivers that come with inphase: one module per kind of device."""
