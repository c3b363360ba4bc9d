"""Recordings as the files of other tools: Parquet, NumPy, LeRobot datasets."""
