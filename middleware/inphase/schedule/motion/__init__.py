"""Tables of an actuator's motion: the box that it stays in, the path that it parks along."""
