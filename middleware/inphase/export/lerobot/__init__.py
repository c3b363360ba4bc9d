"""Recordings as a LeRobot dataset, version 3.0 of its format."""
