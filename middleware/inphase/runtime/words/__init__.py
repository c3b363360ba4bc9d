"""Words for a person on a robot, while it runs and at the end."""
