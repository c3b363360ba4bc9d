"""When a robot may move, and who takes its power away; STATES.md is the page."""
