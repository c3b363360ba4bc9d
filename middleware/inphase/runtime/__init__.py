"""One robot on the wall clock."""
