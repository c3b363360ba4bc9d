"""The rules of a schedule, by subject, as far as they need no driver."""
