"""A robot's service, from a client's side: leases, frames and commands from afar."""
