"""Emulated DYNAMIXEL servos."""
