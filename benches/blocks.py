"""Blocks of frames that a process receives: a line of JSON asks for one, latencies come back."""

import gc
import json
import sys
from collections.abc import Callable
from typing import Any


def serve(receive: Callable[[dict[str, Any]], list[int]]) -> None:
    """Serve blocks until stdin ends: `ready`, then the latencies of `receive`, on stdout."""
    gc.collect()
    gc.freeze()
    gc.disable()
    for line in sys.stdin:
        asked = json.loads(line)
        print("ready", flush=True)
        print(json.dumps(receive(asked)), flush=True)
