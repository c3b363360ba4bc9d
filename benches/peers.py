"""Other people's transports on this machine: one way from process to process, both in Python.

They are whole distributions of messages of the same bytes at the same rates, slow ones too. They
run in an environment of their own, `build/transports`, which `make transports` sets up.
"""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from benches.machine import Options

_HERE = Path(__file__).resolve().parent
_PYTHON = _HERE.parent / "build" / "transports" / "bin" / "python"
PEERS = ("zmq", "iceoryx2", "ecal", "zenoh", "lcm", "cyclonedds")
_BYTES = (64, 65_536)
_RATES_HZ = (500.0, 30.0)
_SECONDS = 10.0
_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
_LIMIT_S = 60.0


def _measure(peer: str, size: int, hz: float, count: int) -> dict[str, Any] | None:
    """Microseconds by quantile; None: nothing came."""
    command = [str(_PYTHON), str(_HERE / "peer_transports.py")]
    with subprocess.Popen(
        [*command, "receive", peer, str(size), str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as receiver:
        assert receiver.stdout is not None
        try:
            if peer != "zenoh":  # whose receiver connects to its sender, which has to be there
                receiver.stdout.readline()
            subprocess.run(
                [*command, "send", peer, str(size), str(hz), str(count)],
                check=False,
                capture_output=True,
                timeout=_LIMIT_S,
            )
            said = [line for line in receiver.stdout if line.startswith("{")]
        finally:
            receiver.kill()
    found = json.loads(said[-1]) if said else {"took_ns": []}
    if not found["took_ns"]:
        return None
    took_us = np.array(found["took_ns"]) / 1000
    values = np.quantile(took_us, list(_SHARES.values()), method="higher")
    return {"came": found["came"] / count, **dict(zip(_SHARES, map(float, values), strict=True))}


def run(options: Options) -> list[dict[str, Any]]:
    """Each peer, in turns."""
    if not _PYTHON.exists():
        print("not measured: make transports sets up their environment")
        return [{"name": "peers", "skipped": "no build/transports"}]
    results = []
    for hz in _RATES_HZ:
        for size in _BYTES:
            for peer in PEERS[:1] if options.smoke else PEERS:
                count = options.many(int(_SECONDS * hz), 20)
                begun_s = time.monotonic()
                found = _measure(peer, size, hz, count)
                name = f"{peer}, {size} B at {hz:.0f} Hz"
                shown = (
                    "nothing came"
                    if found is None
                    else "  ".join(f"{key} {value:.1f}" for key, value in found.items())
                )
                print(f"  {name:<32}{shown}  ({time.monotonic() - begun_s:.0f} s)", flush=True)
                results.append({"name": name, **(found or {"skipped": "nothing came"})})
    return results
