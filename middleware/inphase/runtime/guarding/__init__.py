"""The guard: the process that stops devices when the runtime is dead or frozen; GUARD.md."""
