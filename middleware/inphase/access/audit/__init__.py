"""The audit log: written, chained, checked."""
