"""The timing of recorded runs: what happened when in each cycle, and what was promised."""
