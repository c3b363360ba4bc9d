"""What the limiter costs per joint, and what it lets through.

The cost: instructions inside of one call, by callgrind, of a joint that follows a wave and of one
that approaches steps, without and with a bound on the jerk. The runs, one per command mode: a core
in lock step with 64 joints and random limits is asked for 10^8 values, sensible, adversarial and
any bits at all; what was applied is held against the limits cycle by cycle. `--quick` takes 10^6.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benches.machine import Options
from benches.native import limiter

COMMANDS = 100_000_000
SEED = 20261125
_CALLS = 20_000
_CASES = (
    "followed",
    "followed-jerk",
    "approached",
    "approached-jerk",
    "velocity-followed-jerk",
    "velocity-approached-jerk",
    "effort-followed",
)
_MODES = ("position", "velocity", "effort", "switch")
_BROKEN = (
    "not_finite",
    "range",
    "velocity",
    "acceleration",
    "jerk",
    "step",
    "rate",
    "beyond",
    "dwell",
)


def count_instructions(case: str) -> float:
    """Of one call."""
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        out = Path(folder, "out")
        options = ["--toggle-collect=inphase_limit", f"--callgrind-out-file={out}"]
        command = [str(limiter()), "cost", case, str(_CALLS)]
        subprocess.run(
            ["valgrind", "--tool=callgrind", *options, *command], check=True, capture_output=True
        )
        (line,) = (text for text in out.read_text().splitlines() if text.startswith("totals:"))
    return int(line.split()[1]) / _CALLS


def run(options: Options) -> list[dict[str, Any]]:
    """Cost, then the run."""
    results: list[dict[str, Any]] = []
    cases = _CASES[:: options.many(1, len(_CASES))]
    if options.smoke and shutil.which("valgrind") is None:
        print("instructions: not counted, valgrind is not installed")
        cases = ()
    for case in cases:
        instructions = round(count_instructions(case))
        print(f"{case:<24} {instructions:>6} instructions per joint and cycle")
        results.append({"name": f"limiter, {case}", "instructions": instructions})
    commands = options.many(COMMANDS // 100 if options.quick else COMMANDS, 10_000)
    for mode in _MODES:
        done = subprocess.run(
            [str(limiter()), "run", mode, str(commands), str(SEED)], check=True, capture_output=True
        )
        counted = json.loads(done.stdout)
        broken = sum(counted[key] for key in _BROKEN)
        print(
            f"{mode}: {counted['commands']:,} values, seed {SEED}: {broken} outside of the limits"
        )
        print(json.dumps(counted))
        if broken:
            sys.exit("benches: the limiter let through what it must not")
        results.append(
            {"name": f"limiter, commands, {mode}", "seed": SEED, "broken": broken, **counted}
        )
    return results
