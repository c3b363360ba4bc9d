"""Simulated worlds, and the devices that stand in for real ones."""
