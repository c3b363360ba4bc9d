"""Policy clients: the caller takes frames and answers them, here, in a runtime, or from afar."""
