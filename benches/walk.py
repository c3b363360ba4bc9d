"""A long walk through the states of a robot on virtual time: 10^9 cycles, no violation.

`native/tests/test_walk.c` says which rules hold after every cycle. Here it is run on every core, in
pieces of 10^7 cycles with a seed each; `--quick` takes 10^7 in all.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
from functools import partial
from typing import Any

from benches.machine import Options
from benches.native import walk

CYCLES = 1_000_000_000
_PIECE = 10_000_000
_SEED = 20261129
_COUNTED = re.compile(r"(\d+) cycles of (\d+) robots: armed in (\d+), a joint moved in (\d+), "
                      r"(\d+) losses, (\d+) calms")  # fmt: skip
_NAMES = ("cycles", "robots", "armed", "moving", "losses", "calms")


def _walk(seed: int, cycles: int = _PIECE) -> list[int]:
    done = subprocess.run(
        [str(walk()), str(cycles)],
        env={**os.environ, "INPHASE_SEED": str(seed)},
        check=False,
        capture_output=True,
        text=True,
    )
    found = _COUNTED.search(done.stdout)
    if done.returncode or found is None:
        sys.exit(f"benches: INPHASE_SEED={seed}: {done.stderr}")
    return [int(count) for count in found.groups()]


def run(options: Options) -> list[dict[str, Any]]:
    """The walk, with a line per piece."""
    pieces = 1 if options.quick else CYCLES // _PIECE
    piece = options.many(_PIECE, 10_000)
    walk()
    total = [0] * len(_NAMES)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, counts in enumerate(
            pool.map(partial(_walk, cycles=piece), range(_SEED, _SEED + pieces))
        ):
            total = [sum(pair) for pair in zip(total, counts, strict=True)]
            print(f"{number + 1} of {pieces}: {total[0]:,} cycles, 0 violations", flush=True)
    facts = dict(zip(_NAMES, total, strict=True))
    print(", ".join(f"{name} {count:,}" for name, count in facts.items()))
    return [{"name": "walk", "seed": _SEED, "violations": 0, **facts}]
