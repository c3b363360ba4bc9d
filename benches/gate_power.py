"""How often the gate's counts catch what was made slower, and how often they blame what was not.

The core is built from this source once as it is, and once per kind with a few lines more in its
cycle or in what it sends. The lines are in the copies alone. Each run is a process of its own.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, NamedTuple

from benches.machine import Options
from benches.native import BUILD
from inphase.gate import count_comparison, counted_cycles, counts
from inphase.gate.counts import CycleCounts

_ROOT = Path(__file__).resolve().parent.parent
_NATIVE = _ROOT / "native"
_SCHEDULE = _ROOT / "schedules" / "demo.toml"
_PROGRAMS = {"guard_process.c", "sentinel.c"}
_FLAGS = ("-O3", "-DNDEBUG", "-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
_GOAL_CAUGHT, _GOAL_FALSE = 0.95, 0.01
_RUNS = 100
_SHARE = 0.1


class Injection(NamedTuple):
    """Lines before a file's first function, and a line to put before another."""

    kind: str
    file: str
    before: str
    """the line that has the injected one before it"""
    line: str
    head: str = ""


_BEGIN = f"""
import runpy, sys
sys.path.insert(0, sys.argv[1])
sys.path.append(sys.argv[2])
del sys.argv[1:3]
runpy.run_module("{counted_cycles.__name__}", run_name="__main__")
"""
_LATCH = "        stage_latch(core);"
_PACK = "    return inphase_wire_pack(wire, record, number, inphase_now(), where, header, room);"
_LOOP = "for (volatile int32_t i = 0; i < {}; i++) ;"


def _injections(same: CycleCounts) -> list[Injection]:
    """A tenth more of what the core's cycle, or a message, takes; or one call more."""
    # a turn of the loop at -O3: load, add, store, load, compare, jump
    cycle = int(_SHARE * same.parts["cycle"].instructions / 6)
    message = int(_SHARE * same.parts["gateway"].instructions / 6)
    return [
        Injection("10 % more instructions", "cycle.c", _LATCH, _LOOP.format(cycle)),
        Injection(
            "a system call more", "cycle.c", _LATCH, "syscall(110);", "#include <unistd.h>\n"
        ),
        Injection(
            *("an allocation more", "cycle.c", _LATCH),
            "{ void *volatile room = malloc(64); free(room); }",
            "#include <stdlib.h>\n",
        ),
        Injection(
            *("a 10 % slower message", "wire.c", _PACK, _LOOP.format(message)),
        ),
    ]


def _compile(source: Path, target: Path, *flags: str) -> None:
    command = [os.environ.get("CC", "cc"), *_FLAGS, "-O2", f"-I{_NATIVE}", f"-I{_NATIVE / 'src'}"]
    subprocess.run([*command, *flags, "-c", str(source), "-o", str(target)], check=True)


def _objects(folder: Path) -> dict[str, Path]:
    """The core as it is, a file of machine code for each of its files."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for source in sorted((_NATIVE / "src").glob("*.c")):
        if source.name not in _PROGRAMS:
            made[source.name] = folder / f"{source.stem}.o"
            _compile(source, made[source.name])
    extension = folder / "_core.c"
    command = [sys.executable, str(_NATIVE / "build_core.py"), str(_NATIVE / "inphase.h")]
    subprocess.run([*command, str(extension)], check=True)
    made["_core.c"] = folder / "_core.o"
    include = sysconfig.get_path("include")
    _compile(extension, made["_core.c"], f"-I{include}", "-DPy_LIMITED_API=0x030b0000")
    return made


def _package(folder: Path, objects: dict[str, Path], injection: Injection | None) -> Path:
    """A folder that Python finds the package in, with a core of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    package = folder / "inphase"
    package.mkdir(parents=True)
    for path in (_ROOT / "middleware" / "inphase").iterdir():
        if not path.name.startswith("_core") or path.suffix == ".pyi":
            (package / path.name).symlink_to(path)
    (folder / "inphase_drivers").symlink_to(_ROOT / "drivers" / "inphase_drivers")
    linked = dict(objects)
    if injection is not None:
        text = (_NATIVE / "src" / injection.file).read_text()
        assert text.count(injection.before) == 1, injection
        text = text.replace(injection.before, f"    {injection.line}\n{injection.before}")
        copy = folder / injection.file
        copy.write_text(injection.head + text)
        linked[injection.file] = folder / "injected.o"
        # what it includes from beside itself stands in the core's folder
        _compile(copy, linked[injection.file], f"-iquote{_NATIVE / 'src'}")
    command = [os.environ.get("CC", "cc"), "-shared", "-o", str(package / "_core.abi3.so")]
    subprocess.run([*command, *map(str, linked.values()), "-pthread", "-lm", "-ldl"], check=True)
    return folder


def _count(folder: Path) -> CycleCounts:
    """One run. `-S`: an editable install's own finder would find the other core."""
    arguments = [str(folder), sysconfig.get_path("purelib"), str(_SCHEDULE)]
    done = subprocess.run(
        ["setarch", "-R", sys.executable, "-S", "-c", _BEGIN, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **counts.FIXED},
    )
    found = counts.parse(done.stdout)
    assert found is not None, done.stderr
    return found


def _is_caught(before: CycleCounts, now: CycleCounts) -> bool:
    pairs, _ = count_comparison.compare(before, now)
    return any(pair.has_grown for pair in pairs)


def run(options: Options) -> list[dict[str, Any]]:
    """Runs of the same, then of each kind; each is compared with another run of the same."""
    runs = options.many(min(_RUNS, options.rounds), 1)
    folder = BUILD / "gate_power"
    objects = _objects(folder / "objects")
    same = _package(folder / "same", objects, None)
    before = [_count(same) for _ in range(runs)]
    results = []
    blamed = sum(_is_caught(before[i], _count(same)) for i in range(runs))
    print(f"  nothing changed: {blamed} of {runs} fail (goal: {_GOAL_FALSE:.0%})", flush=True)
    results.append({"name": "gate: nothing changed", "runs": runs, "failed": blamed})
    for injection in _injections(before[0]):
        changed = _package(folder / "changed", objects, injection)
        caught = sum(_is_caught(before[i], _count(changed)) for i in range(runs))
        print(
            f"  {injection.kind}: {caught} of {runs} are caught (goal: {_GOAL_CAUGHT:.0%})",
            flush=True,
        )
        results.append({"name": f"gate: {injection.kind}", "runs": runs, "caught": caught})
    return results
