"""The clients of a drive process: their seats, views and commands."""
