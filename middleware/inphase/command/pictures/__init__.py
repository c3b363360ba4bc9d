"""Pictures of a run on a terminal: while it lasts, and at its end."""
