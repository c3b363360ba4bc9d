"""What a schedule must keep, by subject: what can be checked without a driver."""
