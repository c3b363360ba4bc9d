"""A runtime around one device, as tests of its driver use it: its schedule, and waiting on it."""

import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inphase import schedule as schedules
from inphase.driver import Driver, SensorSpec
from inphase.episodes.runner import Runner
from inphase.frames.frame import Frame, Sample
from inphase.frames.store import Lost, Reader
from inphase.plan import declarations
from inphase.policy.turn import PolicyCall
from inphase.schedule import Schedule
from inphase.schedule.document import toml_table

NAME = "device"
"""of the device, its sensor and its actuator"""
BOUND_S = 20.0
REST_S = 0.2  # how long a joint stays at rest before it counts as stopped
"""generous: how long any event may take before a test gives up"""
_LOOKS = 20
_AGE_PERIODS = 8

# slow and patient: what is tested is what happens, not when, also on a loaded machine
_CYCLE = """
name = "{name}"
[cycle]
period_us = {period_us}
read_deadline_us = {deadline_us}
act_us = {act_us}
realtime = "prefer"
resumed_after_ms = 20000
overrun_limit = 1000000
[guard]
max_hold_ms = 20000
"""


def until(condition: Callable[[], bool], what: str) -> None:
    """Ask until `condition` holds. Raises AssertionError with `what` after BOUND_S."""
    end_s = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < end_s, f"waited {BOUND_S:.0f} s for this: {what}"
        time.sleep(0.005)


def until_at_rest(speed: Callable[[], float], rest: float) -> None:
    """Wait until a speed stays at rest: a joint that swings back is slow for a moment only."""
    moved_s = time.monotonic()

    def has_rested() -> bool:
        nonlocal moved_s
        if speed() > rest:
            moved_s = time.monotonic()
        return time.monotonic() - moved_s >= REST_S

    until(has_rested, "the joints come to rest")


class Rig:
    """One device in a schedule of its own, in `folder`. `period_ns` follows from the device."""

    def __init__(self, folder: Path, driver: type[Driver], options: dict[str, Any]) -> None:
        self.folder = folder
        self.home: str | None = None
        """None: the device's own choice"""
        self.call = f"{driver.__module__}:{driver.__qualname__}"
        self.options = options
        self.driver = self.make()

    def make(self, **changes: Any) -> Driver:
        """A new driver; with `changes` to its options. Raises ScheduleError."""
        head = _CYCLE.format(name="options", period_us=1000, deadline_us=500, act_us=600)
        # a driver's options are checked before its sensor is known
        return declarations.make_driver(
            self._load("options", head, {**self.options, **changes}), NAME
        )

    def schedule(self, *tables: str) -> Schedule:
        """Its schedule with the sensor, and more tables."""
        spec = self.driver.sensor()
        assert spec is not None, f"{self.call} has no sensor"
        actuator = self.driver.actuator()
        write_ns = actuator.encoding.write_ns if actuator and actuator.encoding else 0
        deadline_us = max(5_000, 2 * _worst_ns(spec) // 1000)
        period_us = deadline_us + 3_000 + write_ns // 1000
        robot = f"rig-{secrets.token_hex(6)}"
        head = _CYCLE.format(
            name=robot, period_us=period_us, deadline_us=deadline_us, act_us=deadline_us + 1_000
        )
        sensor: dict[str, Any] = {
            "device": NAME,
            "trigger_us": None if runs_free(spec) else 0,
            "max_age_ms": _AGE_PERIODS * period_us / 1000,
        }
        return self._load(robot, head, self.options, toml_table(("sensor", NAME), sensor), *tables)

    def _load(self, robot: str, head: str, options: dict[str, Any], *tables: str) -> Schedule:
        device = toml_table(("device", NAME), {"driver": self.call, "home": self.home, **options})
        if not tables:
            tables = (
                toml_table(("sensor", NAME), {"device": NAME, "trigger_us": 0, "max_age_ms": 9}),
            )
        path = self.folder / f"{robot}.toml"
        path.write_text("".join((head, device, *tables)))
        return schedules.load(path)

    def run(self, *tables: str, policy: PolicyCall | None = None, cycles: int = 0) -> "Watched":
        """The runtime on it, to be entered; without a policy it only observes."""
        runner = Runner(
            self.schedule(*tables), policy=policy, cycles=cycles, observe=policy is None
        )
        return Watched(runner)


class Watched:
    """A running rig. Leave it with `with`."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.killed = False
        self.worker: dict[str, int] | None = None
        """afterwards: what the device's worker counted; None: the core ran the device"""
        self.passed = 0
        """afterwards: samples of a device that runs by itself that a newer one followed at once"""

    def __enter__(self) -> "Watched":
        self.runner.__enter__()
        self._reader = Reader(self.runner.store_path)
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self.runner.__exit__(*error)
            self.worker = self._reader.worker(0)
            self.passed = self._reader.counts()["passed"]
            if self.worker is not None:
                self.passed += self.worker["flushed"]
        except Exception:
            if not self.killed:
                raise
        finally:
            self._reader.close()

    def kill(self, guarded: bool) -> None:
        """SIGKILL to the runtime; unless it is `guarded`, to its guard too, which sends nothing."""
        assert self.runner.pid is not None
        guards = [] if guarded else _guards_of(self.runner.pid)
        for guard in guards:
            os.kill(guard, signal.SIGSTOP)
        self.killed = True
        os.kill(self.runner.pid, signal.SIGKILL)
        for guard in guards:
            os.kill(guard, signal.SIGKILL)

    def frame(self, wanted: Callable[[Frame], bool], what: str) -> Frame:
        """The next frame that is as wanted. Raises AssertionError after BOUND_S."""
        end_s = time.monotonic() + BOUND_S
        seen: dict[str, int] = {}
        while time.monotonic() < end_s:
            try:
                frame = self.runner.next(BOUND_S)
            except (TimeoutError, Lost) as error:
                raise AssertionError(f"no frame while waiting for {what}: {error}") from error
            if wanted(frame):
                return frame
            status = frame[NAME].status
            seen[status] = seen.get(status, 0) + 1
        raise AssertionError(
            f"no frame in {BOUND_S:.0f} s with {what}; statuses were {seen}, the runtime said "
            f"{self.runner.messages}"
        )

    def status(self, *statuses: str) -> Sample:
        """The sample of the next frame in which it has one of these statuses."""
        wanted = set(statuses)
        return self.frame(lambda frame: frame[NAME].status in wanted, " or ".join(statuses))[NAME]

    def now(self) -> Frame:
        """The first frame of a cycle that is yet to begin."""
        now_ns = time.monotonic_ns()
        return self.frame(lambda frame: frame.due_ns > now_ns, "a cycle that began later")

    def samples(self, frames: int) -> list[Sample]:
        """The samples of the next frames."""
        return [self.frame(lambda _: True, "any status")[NAME] for _ in range(frames)]

    def descriptors(self) -> int:
        """Descriptors that the runtime and its children hold: the fewest of some looks, since a
        file may be open for a moment."""
        pid = self.runner.pid
        assert pid is not None
        return min(sum(map(_descriptors, _family(pid))) for _ in range(_LOOKS))


def runs_free(spec: SensorSpec) -> bool:
    """True if its device is never asked: it is free-running."""
    if spec.exchange is not None:
        return not spec.exchange.request
    return spec.calls is not None and not spec.calls.triggered


def _worst_ns(spec: SensorSpec) -> int:
    if spec.exchange is not None:
        return max(spec.exchange.worst_ns, spec.exchange.typical_ns)
    assert spec.calls is not None
    return spec.calls.latency_max_ns


def path_for_children(driver: type[Driver]) -> str:
    """PYTHONPATH with which a child can import the driver's module, as this process did."""
    file = sys.modules[driver.__module__].__file__
    assert file is not None, f"{driver} is in no file"
    place = Path(file).resolve()
    up = driver.__module__.count(".") + (place.name == "__init__.py")
    folder = str(place.parents[up])
    path = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]
    return os.pathsep.join(path if folder in path else [*path, folder])


def _family(pid: int) -> list[int]:
    """A process and all below it, as /proc says."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:  # processes end while they are looked at
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)] = int(fields[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return 0


def _guards_of(runtime: int) -> list[int]:
    """The guard of a runtime, by its process number; none where nothing needs one."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (place / "stat").read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            continue
        if name == "_guard" and int(rest.split()[1]) == runtime:
            found.append(int(place.name))
    return found
