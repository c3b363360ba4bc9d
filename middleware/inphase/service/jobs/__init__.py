"""Jobs of a served robot: policies that users submitted, run unattended, judged and reset."""
