"""The policy: a callable named in the schedule, and the loop of its own process.

    python -m inphase.policy SCHEDULE STORE MAILBOX

A policy is a function or an object called with a frame; it returns a command: an array of all
actuators' channels in schedule order, or a dict of actuator name to array, in SI. It may have
`reset()`. A class is made once, with the schedule's `args`.
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import process, schedule, store
from inphase._core import ffi
from inphase.calls import resolve_call
from inphase.errors import ScheduleError
from inphase.follow import StoreFollower
from inphase.frame import Frame
from inphase.schedule import Schedule

PolicyCall = Callable[[Frame], Any]
_TRACEBACKS = 3  # shown in full; later ones would flood


def load(described: Schedule) -> PolicyCall:
    """Import and make the schedule's policy, and reset it. Raises ScheduleError."""
    assert described.policy is not None
    try:
        found = resolve_call(described.policy.call, described.path.parent)
        if isinstance(found, type):
            found = found(**described.policy.args)
    except ScheduleError as error:
        raise described.error("policy.call", str(error)) from error
    except Exception as error:
        raise described.error(
            "policy.args", f"{described.policy.call} cannot be made: {error!r}; correct args"
        ) from error
    if not callable(found):
        raise described.error("policy.call", f"{described.policy.call} is not callable")
    reset = getattr(found, "reset", None)
    if callable(reset):
        reset()
    return found


class CommandBuffer:
    """Turns what a policy returns into doubles that C can take."""

    def __init__(self, actuators: tuple[tuple[str, int, str], ...]) -> None:
        self.channels = sum(channels for _, channels, _ in actuators)
        self._values = np.zeros(self.channels)
        self.pointer = ffi.cast("double *", ffi.from_buffer(self._values))
        self._shape = (self.channels,)
        self._parts: dict[str, slice] = {}
        at = 0
        for name, channels, _ in actuators:
            self._parts[name] = slice(at, at + channels)
            at += channels

    def fill(self, command: Any) -> str | None:
        """Take a command in; the reason when it is none."""
        if isinstance(command, dict):
            if command.keys() != self._parts.keys():
                return "shape"
            for name, part in command.items():
                trouble = self._put(self._values[self._parts[name]], part)
                if trouble:
                    return trouble
            return None
        return self._put(self._values, command)

    def _put(self, to: NDArray[np.float64], values: Any) -> str | None:
        if type(values) is not np.ndarray:
            try:
                values = np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError):
                return "shape"
        if values.shape != to.shape or values.dtype.kind not in "fiu":
            return "shape"
        to[:] = values
        return None


def serve(described: Schedule, store_path: str, mailbox_path: str) -> None:
    """The policy process: newest frame in, command for its cycle out, until the store ends."""
    follower = StoreFollower(store_path)
    buffer = CommandBuffer(follower.layout.actuators)
    call = load(described)
    mailbox = store.Mailbox(mailbox_path, buffer.channels, follower.layout.epoch)
    assert described.policy is not None
    _set_priority(described.policy.priority)
    max_hold_ns = max(
        (a.max_hold_ns(described.cycle.period_ns) for a in described.actuator.values()),
        default=0,
    )
    print("ready", flush=True)

    # what exists now stays: no collection in the loop, none of what was imported ever looked at
    gc.collect()
    gc.freeze()
    gc.disable()
    shown = 0
    try:
        while True:
            frame = follower.next(newest=True)
            try:
                trouble = buffer.fill(call(frame))
            except Exception:  # the policy is the outside world: it must not end this loop
                trouble = "raised"
                shown += 1
                if shown <= _TRACEBACKS:
                    print(f"policy raised in cycle {frame.cycle}:", file=sys.stderr)
                    traceback.print_exc()
            if trouble is None:
                mailbox.post(
                    frame.cycle, frame.due_ns + max_hold_ns, buffer.pointer, buffer.channels
                )
            else:
                mailbox.refuse(frame.cycle, trouble)
    except store.Lost:
        return
    finally:
        mailbox.close()


def _set_priority(priority: int) -> None:
    if priority:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
        except PermissionError:
            print(f"policy: SCHED_FIFO {priority} is refused; runs on", file=sys.stderr)


def main() -> None:
    """Entry of the process."""
    process.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, store_path, mailbox_path = sys.argv[1:4]
    try:
        serve(schedule.load(Path(path)), store_path, mailbox_path)
    except ScheduleError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
