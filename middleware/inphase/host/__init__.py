"""This machine: its processes, files, locks, rights and sockets."""
