"""Workers that run episodes: in threads, in processes, on a Ray cluster, and on a real robot."""
