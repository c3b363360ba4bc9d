"""Access from elsewhere: keys of users, their check on sockets, and rates."""
