"""The kinds of a service's messages beside requests, and the size of a file's pieces."""

PING, PONG = b"inphase.ping\0", b"inphase.pong\0"
STOP, STOPPED, UNKNOWN = b"inphase.stop\0", b"inphase.stopped\0", b"inphase.unknown\0"
JOB_MARK = "#job"
"""between a user and the number of its job, where a job holds or waits"""
PIECE_BYTES = 48 << 10
REQUEST_BYTES = 65_536
