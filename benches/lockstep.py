"""Lock step of the demo schedule: cycles per second, and the share that is our own code."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from msgspec.structs import replace

from benches import robot
from benches.machine import Options
from benches.trivial import hold
from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.policy import turn as policies

_PROTOTYPE = {"no policy": 780_000, "trivial policy": 148_000}
_CYCLES = {"no policy": 400_000, "trivial policy": 100_000, "demo policy": 100_000}
_TURNS = 7

PolicyCall = Callable[[Frame], Any]


def _demo() -> schedules.Schedule:
    """The demo without its policy. A trivial one begins far away."""
    read = schedules.load(robot.SCHEDULES / "demo.toml")
    near = {n: replace(a, first_command="approach") for n, a in read.actuator.items()}
    return replace(read, policy=None, actuator=near)


def _seconds(call: PolicyCall | None, cycles: int, digest: bool) -> float:
    with LockStep(_demo(), call=call, digest=digest) as run:
        run.run(1000)
        start = time.perf_counter()
        run.run(cycles)
        if digest:
            run.digest()
        return time.perf_counter() - start


def _bare_seconds(call: PolicyCall, cycles: int) -> float:
    """The policy alone, on one frame."""
    with LockStep(_demo(), call=hold, digest=False) as run:
        for _ in range(100):
            frame = run.step()
        start = time.perf_counter()
        for _ in range(cycles):
            call(frame)
        return time.perf_counter() - start


def _measure(name: str, call: PolicyCall | None, digest: bool, options: Options) -> dict[str, Any]:
    cycles, turns = options.many(_CYCLES[name], 1000), options.many(_TURNS, 1)
    seconds = np.array([_seconds(call, cycles, digest) for _ in range(turns)])
    bare = min(_bare_seconds(call, cycles) for _ in range(turns)) if call else 0.0
    low, middle, high = (float(cycles / s) for s in np.quantile(seconds, [1, 0.5, 0]))
    share = 1 - bare / float(np.median(seconds))
    title = f"{name}, digest {'on' if digest else 'off'}"
    against = "" if digest or name not in _PROTOTYPE else f", prototype {_PROTOTYPE[name]:,}"
    print(
        f"{title:<28} {middle:>10,.0f} cycles/s ({low:,.0f}..{high:,.0f}{against}); "
        f"our own share {share:.0%}",
        flush=True,
    )
    return {
        "name": f"lock step, {title}",
        "cycles_per_s": {"min": low, "p50": middle, "max": high},
        "own_share": share,
    }


def run(options: Options) -> list[dict[str, Any]]:
    """Without a policy, with a trivial one, with the demo's; without and with digest."""
    read = schedules.load(robot.SCHEDULES / "demo.toml")
    calls: dict[str, PolicyCall | None] = {
        "no policy": None,
        "trivial policy": hold,
        "demo policy": policies.load(read),
    }
    return [
        _measure(name, calls[name], digest, options) for digest in (False, True) for name in calls
    ]
