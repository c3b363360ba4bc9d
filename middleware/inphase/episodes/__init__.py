"""A robot that is called: lock step, Runner, rollouts, Gymnasium."""
