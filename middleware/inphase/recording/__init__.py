"""Recordings of runs: MCAP files of whole frames, written beside the robot and read back."""
