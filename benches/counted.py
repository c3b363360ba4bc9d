"""Instructions of the parts of the frame path, by single steps, against budgets.toml.

A part's count is everything that its thread runs in user space, Python's own instructions among
them; `own` are those of the C core alone. Both depend on the compiler and on Python's version,
which the budgets name, and the C library picks its copying by the processor: elsewhere the counts
are shown, and judged by nobody. A count that
is more than 2 % above its budget fails; one that is 5 % below asks for a new budget. Either is
written into budgets.toml, with the reason, in the commit that changes it.

    python -m benches.counted    prints what budgets.toml would be
"""

import ctypes
import os
import platform
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benches.machine import Options
from inphase.host.machine import processor

HERE = Path(__file__).parent
BUDGETS = HERE / "budgets.toml"
ABOVE, BELOW = 1.02, 0.95
_PIECES = 4096
_MARKS = {"x86_64": (110, 102, 121), "aarch64": (173, 174, 155)}  # getppid, getuid, getpgid


class Piece(ctypes.Structure):
    """struct bench_piece"""

    _fields_ = (
        ("call_from", ctypes.c_int64),
        ("call_to", ctypes.c_int64),
        ("instructions", ctypes.c_int64),
        ("own", ctypes.c_int64),
    )


class Watched(ctypes.Structure):
    """struct bench_watched"""

    _fields_ = (("low", ctypes.c_uint64), ("high", ctypes.c_uint64), ("last_call", ctypes.c_int64))


class Count(NamedTuple):
    """Of one part."""

    instructions: int
    own: int
    calls: int
    """system calls"""


def _library() -> ctypes.CDLL:
    """steps.c alone: it is compiled in a moment."""
    build = HERE.parent / "build" / "benches"
    target, source = build / "steps.so", HERE / "steps.c"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        build.mkdir(parents=True, exist_ok=True)
        command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-shared", "-fPIC"]
        subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def _core_range(pid: int) -> tuple[int, int]:
    """Where the code of the C core lies in a process."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    code = [line for line in lines if "/inphase/_core." in line and " r-xp " in line]
    assert len(code) == 1, code
    low, high = (int(number, 16) for number in code[0].split()[0].split("-"))
    return low, high


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("TracerPid:")[2].split()[0]) != 0


def count(*options: str) -> dict[str, Count]:
    """Every part, its smallest count of a few. options: of benches.stepped."""
    begin, end, last = _MARKS[os.uname().machine]
    child = subprocess.Popen(
        [sys.executable, "-m", "benches.stepped", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parent,
        env={**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert child.stdin is not None and child.stdout is not None
    names = child.stdout.readline().strip().split("\t")
    room = (Piece * _PIECES)()
    watched = Watched(*_core_range(child.pid), last)
    bench_steps = _library().bench_steps
    with ThreadPoolExecutor(1) as pool:  # the thread that attaches is the one that steps
        stepping = pool.submit(bench_steps, child.pid, room, _PIECES, ctypes.byref(watched))
        while not _is_traced(child.pid):
            time.sleep(0.01)
        child.stdin.write("\n")
        child.stdin.flush()
        done = stepping.result()
    child.kill()
    child.communicate()
    if done < 0:
        raise OSError(-done, os.strerror(-done), "ptrace")
    found, at = [], -1
    for piece in room[:done]:
        if piece.call_from == begin:
            found.append(Count(0, 0, 0))
            at = len(found) - 1
        if at >= 0:
            so_far = found[at]
            inside = piece.call_to != end
            found[at] = Count(
                so_far.instructions + piece.instructions,
                so_far.own + piece.own,
                so_far.calls + inside,
            )
            at = at if inside else -1
    times = len(found) // len(names)
    assert times * len(names) == len(found) > 0, (len(found), names)
    return {name: min(found[i * times : (i + 1) * times]) for i, name in enumerate(names)}


def made_by() -> dict[str, str]:
    """What the counts depend on."""
    compiler = subprocess.run(
        [os.environ.get("CC", "cc"), "-dumpfullversion"], check=True, capture_output=True, text=True
    )
    return {
        "machine": platform.machine(),
        "processor": processor(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "compiler": compiler.stdout.strip(),
    }


def budgets() -> dict[str, Any]:
    """The file."""
    return tomllib.loads(BUDGETS.read_text())


def verdicts(counts: dict[str, Count], budget: dict[str, Any]) -> list[str]:
    """What is wrong with the counts of this machine; nothing where the budgets are of another."""
    found = []
    for name, counted in counts.items():
        for kind, got in counted._asdict().items():
            wanted = budget["part"][name].get(kind, got)
            off = abs(got - wanted) / max(wanted, 1)
            if got > wanted * ABOVE:
                found.append(
                    f"{name}: {got} {kind} are {off:.1%} above the budget of {wanted}; "
                    f"make it cheaper, or write the new count and its reason into budgets.toml"
                )
            elif got < wanted * BELOW:
                found.append(
                    f"{name}: {got} {kind} are {off:.1%} below the budget of {wanted}; "
                    f"write the new count and its reason into budgets.toml"
                )
    return found


def run(options: Options) -> list[dict[str, Any]]:
    """The counts, and what the budgets say."""
    counts = count()
    for name, counted in counts.items():
        print(f"  {name:<40}{counted.instructions:>9}{counted.own:>9}{counted.calls:>4}")
    budget = budgets()
    is_comparable = budget["made_by"] == made_by()
    wrong = verdicts(counts, budget) if is_comparable else []
    print("\n".join(wrong) if wrong else "within budget" if is_comparable else "not comparable")
    return [{"name": f"counted: {name}", **counted._asdict()} for name, counted in counts.items()]


def main() -> None:
    """Print what the file would be."""
    print("[made_by]")
    for name, value in made_by().items():
        print(f'{name} = "{value}"')
    for name, counted in count().items():
        print(f'\n[part."{name}"]')
        for kind, number in counted._asdict().items():
            print(f"{kind} = {number}")
        print('reason = ""')


if __name__ == "__main__":
    main()
