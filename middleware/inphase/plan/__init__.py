"""The plan: a schedule and its drivers, put together, and when what happens."""
