"""Requests to a run that goes on: keys, signals, stops, episodes."""
