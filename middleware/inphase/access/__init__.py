"""Access from elsewhere: keys of users, their check on sockets, rates, and the audit log."""
