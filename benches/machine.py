"""What the figures were measured on, the rights they need, and where they are recorded."""

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inphase._core import ffi as core_ffi
from inphase._core import lib as core
from inphase.host.machine import processor

HISTORY = Path(__file__).parent / "history.jsonl"
PRIORITY = 80


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    rounds: int
    realtime: bool
    record: bool
    quick: bool
    smoke: bool = False
    """each bench runs once, for a moment: it shows that the bench works, and no figure"""

    def many(self, full: int, smoke: int) -> int:
        """So many of something; fewer where it is only to be seen to work."""
        return smoke if self.smoke else full

    @property
    def priority(self) -> int:
        """Of the cycle thread and of the yardstick's."""
        return PRIORITY if self.realtime else 0

    @property
    def cycle_cpu(self) -> int:
        """Where the cycle thread and the yardstick's run: the last core."""
        return max(os.sched_getaffinity(0))

    @property
    def other_cpu(self) -> int:
        """Where devices and readers run: the first core."""
        return min(os.sched_getaffinity(0))


def refuse_without_realtime(options: Options) -> None:
    """End the process, exit code 3, when SCHED_FIFO was asked for and is not granted."""
    out = core_ffi.new("struct inphase_realtime *")
    core.inphase_realtime_try(options.priority, options.cycle_cpu, out)
    if not out.granted:
        refused = os.strerror(out.priority_errno or out.cpu_errno)
        sys.exit(
            f"benches: SCHED_FIFO {options.priority} on core {options.cycle_cpu}: {refused}; run "
            f"as root or raise RLIMIT_RTPRIO, or say --no-realtime, which is not comparable"
        )


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], check=False, capture_output=True, text=True
    )
    return done.stdout.strip()


def facts(options: Options) -> dict[str, Any]:
    """Machine and versions."""
    root = Path(__file__).parent.parent
    commit = _git(root, "rev-parse", "--short", "HEAD")
    changed = _git(root, "status", "--porcelain", "-uno")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "commit": commit + ("+" if changed else ""),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "realtime": options.realtime,
        "load_1min": round(os.getloadavg()[0], 1),
    }


def record(options: Options, figure: str, results: list[dict[str, Any]]) -> None:
    """Append results to the history."""
    about = facts(options)
    with HISTORY.open("a") as file:
        for result in results:
            file.write(json.dumps({"figure": figure, **about, **_rounded(result)}) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


@contextmanager
def hogs() -> Iterator[None]:
    """A busy process of ordinary priority on every core."""
    code = "import os,sys\nos.sched_setaffinity(0,[int(sys.argv[1])])\nwhile True: pass"
    with ExitStack() as stack:
        for cpu in os.sched_getaffinity(0):
            process = subprocess.Popen([sys.executable, "-S", "-c", code, str(cpu)])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
