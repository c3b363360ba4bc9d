"""This machine as the host of a cycle: its facts, their costs, remedies, and a measurement."""
