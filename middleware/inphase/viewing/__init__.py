"""Live views of a robot that runs, for viewers of other people."""
