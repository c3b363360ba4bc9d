"""Robots as a service: who may drive, from where, and who drove. Above the runtime, never in it."""
