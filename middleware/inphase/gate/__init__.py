"""A latency gate: a schedule is run in turns with a bare wake, and compared with a baseline."""
