"""The C core as an object: configured from a plan, on a segment of the store."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from inphase._core import ffi, lib
from inphase.core.config import base_config, estop_inputs
from inphase.core.kept import Kept
from inphase.core.lockstep_config import LockStepConfig
from inphase.core.world_seam import Failure
from inphase.errors import StoreError
from inphase.frames.record_layout import ROW
from inphase.frames.store import Segment, no_segment
from inphase.plan.plan import Plan

FAULTS = {
    "silent": lib.INPHASE_FAULT_SILENT,
    "delayed": lib.INPHASE_FAULT_DELAYED,
    "invalid": lib.INPHASE_FAULT_INVALID,
    "nan": lib.INPHASE_FAULT_NAN,
    "wrong": lib.INPHASE_FAULT_WRONG,
    "frozen": lib.INPHASE_FAULT_FROZEN,
    "gone": lib.INPHASE_FAULT_GONE,
    "wake": lib.INPHASE_FAULT_WAKE,
    "clock_step": lib.INPHASE_FAULT_CLOCK_STEP,
    "estop": lib.INPHASE_FAULT_ESTOP,
    "suspended": lib.INPHASE_FAULT_SUSPENDED,
}
"""Planned faults of simulated devices and of the virtual clock, by name."""


_answer_turn = lib.inphase_core_answer_turn  # looked up once: it is called in every turn


PARKS = (
    "none",
    "waits",
    "moves",
    "done",
    "hurried",
    "latched",
    "feedback",
    "limits",
    "time",
    "refused",
)
"""in the order of INPHASE_PARK_*"""


class Core:
    """One core. Its opener closes it; `close` stops the cycle thread.

    Threads: any, but one at a time.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        epoch: int,
        description: bytes,
        observe: bool = False,
        cycles: int = 0,
        lockstep: "LockStepConfig | None" = None,
        lines: bool = True,
        kept: Kept | None = None,
    ) -> None:
        """lines: False where no line is there, because no device is: none is ever pressed. kept: of
        the runs in lock step before this one, with their memory."""
        self.plan = plan
        self.epoch = epoch
        self._keep: list[Any] = []
        self._lines = lines
        self._kept = kept
        config = self._config(
            epoch=epoch,
            description=description,
            observe=observe,
            cycles=cycles,
            lockstep=lockstep,
        )
        size = int(lib.inphase_core_size(config))
        make = Segment.make if lockstep is None else Segment.lazy
        self.segment = make(size) if kept is None else kept.segment(size)
        core = ffi.new("inphase_core **")
        rc = lib.inphase_core_open(core, config, self.segment.handle)
        if rc < 0:
            if kept is None:
                self.segment.close()
            raise StoreError(f"the core refuses its configuration: errno {-rc}")
        self._core = core[0]
        self._given: tuple[Any, ...] = ()
        self._number = ffi.new("int64_t *")
        self._answers: tuple[Any, ...] = ()
        self.answered: Callable[[], int] = _closed
        """`answer_turn` without a reason, with the values and the bound of `answers_of`; a negative
        number where there is no frame"""

    def _config(
        self,
        *,
        epoch: int,
        description: bytes,
        observe: bool,
        cycles: int,
        lockstep: "LockStepConfig | None",
    ) -> Any:
        if self._kept is not None and lockstep is not None:
            config = self._kept.config(self.plan, lockstep)
        else:
            config = base_config(self.plan, len(description), self._keep, lockstep)
        config.description_size = len(description)
        text = ffi.new("char[]", description)
        self._keep.append(text)
        config.cycles = cycles
        config.estop_inputs = len(self.plan.estop)
        config.estop = estop_inputs(self.plan, self._keep, self._lines)
        config.epoch = epoch
        config.observe = observe
        config.has_policy = not observe and (
            self.plan.schedule.policy is not None or self.plan.client_policy
        )
        config.description = text
        return config

    # ---- before the start ------------------------------------------------------------------

    def worker(self, device: int, ring: Segment, wake_fd: int, bell: Segment | None) -> None:
        """A device whose worker posts into `ring`; bell: for its orders. Before `start`."""
        rung = ffi.NULL if bell is None else bell.handle
        rc = lib.inphase_core_worker(self._core, device, ring.handle, wake_fd, rung)
        if rc < 0:
            raise StoreError(f"device {device}: not the segment of this runtime's worker")

    def mailbox(self) -> tuple[Segment, Segment]:
        """Make the policy's mailbox and its bell, which the caller closes after this core; before
        `start`, once. Raises StoreError."""
        made = ffi.new("inphase_segment *[2]")
        rc = lib.inphase_core_mailbox(self._core, made, made + 1)
        if rc < 0:
            raise no_segment(0, rc)
        return Segment(made[0]), Segment(made[1])

    def line(self, sensor: int, fd: int, pulse_ns: int = 0) -> None:
        """Raise a GPIO line at a sensor's trigger offset; before `start`. See inphase_core_line."""
        rc = lib.inphase_core_line(self._core, sensor, fd, pulse_ns)
        if rc < 0:
            raise StoreError(f"sensor {sensor}: the core does not take its line: errno {-rc}")

    def estop_line(self, index: int, fd: int) -> None:
        """Give an emergency-stop input its line; before `start`."""
        rc = lib.inphase_core_estop_line(self._core, index, fd)
        if rc < 0:
            raise StoreError(f"estop input {index}: the core does not take its line: errno {-rc}")

    def client_page(self) -> Segment:
        """Make the page where clients leave their wishes, which the caller closes after this core;
        before `start`, once."""
        page = Segment.client_page(self.epoch)
        rc = lib.inphase_core_client_page(self._core, page.handle)
        assert rc == 0, rc
        return page

    def lease_page(self) -> Segment:
        """Make the page that says who may drive, which the caller closes after this core; before
        `start`, once. From then on nothing moves without a lease."""
        page = Segment.lease_page(self.epoch)
        rc = lib.inphase_core_lease_page(self._core, page.handle)
        assert rc == 0, rc
        return page

    def guard(self, max_hold_ns: int) -> tuple[int, int]:
        """The page for the guard, and that for its own beat: descriptors that the caller closes;
        before `start`."""
        life = ffi.new("int32_t *")
        fd = int(lib.inphase_core_guard(self._core, max_hold_ns, life))
        if fd < 0:
            raise StoreError(f"no page for the guard: {os.strerror(-fd)}")
        return fd, int(life[0])

    # ---- devices and actuators -------------------------------------------------------------

    def attach(self, device: int, fd: int) -> None:
        """From its next cycle on the cycle thread uses this descriptor, and no other before it."""
        rc = lib.inphase_core_attach(self._core, device, fd)
        assert rc == 0, (device, fd)

    def detach(self, device: int) -> None:
        """From its next cycle on the cycle thread uses none; `let_go` says when."""
        rc = lib.inphase_core_detach(self._core, device)
        assert rc == 0, device

    def attached(self, device: int) -> bool:
        """True if the cycle thread uses what `attach` was called with last."""
        return bool(lib.inphase_core_attached(self._core, device) == 1)

    def let_go(self, device: int) -> bool:
        """True if the cycle thread uses nothing of the device: the newest wish was taken, and it
        was `detach`, or the device was lost since."""
        return bool(lib.inphase_core_attached(self._core, device) == 0)

    def lost(self, device: int) -> int:
        """The errno with which the device was lost since the newest `attach`, 0: it was not."""
        return int(lib.inphase_core_lost(self._core, device))

    def holds(self, actuator: int, goals: Sequence[float]) -> None:
        """The goals at which a device holds already, before `enable`; empty: none."""
        rc = lib.inphase_core_holds(self._core, actuator, list(goals), len(goals))
        assert rc == 0, (actuator, goals)

    def enable(self, actuator: int, enabled: bool, *, stands: bool = False) -> None:
        """An actuator may be written to, or not. stands: it stays where it is, whatever a policy
        asks, until it is enabled without."""
        how = lib.INPHASE_ENABLED_STANDS if stands else 1
        lib.inphase_core_enable(self._core, actuator, how if enabled else 0)

    def guarded(self, actuator: int, guarded: bool) -> None:
        """Something stops an actuator's device when this process does not, or no longer."""
        lib.inphase_core_guarded(self._core, actuator, guarded)

    def moves(self, actuator: int) -> bool:
        """True if a robot that is latched or stopping is measured to move at this actuator."""
        return bool(lib.inphase_core_moves(self._core, actuator) == 1)

    def loose(self, actuator: int) -> bool:
        """True if a robot that is latched or stopping is not known to be at rest there."""
        return bool(lib.inphase_core_loose(self._core, actuator) == 1)

    def parked(self, actuator: int) -> str:
        """How far an actuator is along its path at the end of a run: one of PARKS."""
        return PARKS[lib.inphase_core_parked(self._core, actuator)]

    # ---- motion: STATES.md -----------------------------------------------------------------

    def arm(self) -> None:
        """Ask for motion, from where the robot is; granted once all is well. The local reset."""
        lib.inphase_core_arm(self._core)

    def arm_after(self, estops: int) -> None:
        """Likewise, unless there were more emergency stops so far: one that came meanwhile wins."""
        lib.inphase_core_arm_after(self._core, estops)

    def disarm(self) -> None:
        """Take back a request to arm that was not granted."""
        lib.inphase_core_disarm(self._core)

    def estop(self) -> None:
        """Emergency stop, from this process; callable from a signal handler."""
        lib.inphase_core_estop(self._core, lib.INPHASE_ESTOP_LOCAL)

    def latch(self, reason: int, detail: int = 0) -> None:
        """Latch motion for what the core cannot see by itself; the first reason stays."""
        rc = lib.inphase_core_latch(self._core, reason, detail)
        assert rc == 0, reason

    def stop(self, reason: int, detail: int = 0) -> None:
        """Ramp, park what has a path, then end. The first reason stays."""
        lib.inphase_core_stop(self._core, reason, detail)

    # ---- what the core is told of others ---------------------------------------------------

    def beat(self) -> None:
        """The supervisor lives; from the first beat on its silence latches motion."""
        lib.inphase_core_beat(self._core)

    def policy_gone(self, died: bool) -> None:
        """No command will come any more."""
        lib.inphase_core_policy_gone(
            self._core, lib.INPHASE_REASON_DIED if died else lib.INPHASE_REASON_SILENT
        )

    def host(self, counts: Mapping[str, int]) -> None:
        """Disturbances of the cycle thread by its host: struct inphase_host_counts by field name.
        Thread: the supervisor's."""
        lib.inphase_core_host(self._core, ffi.new("struct inphase_host_counts *", dict(counts)))

    def late(self, moment: bytes) -> None:
        """A late moment, a row of LATE of late_moment.py. Thread: the supervisor's."""
        lib.inphase_core_late(self._core, ffi.from_buffer("struct inphase_late *", moment))

    # ---- the cycle thread ------------------------------------------------------------------

    def start(self) -> None:
        """Start the cycle thread."""
        rc = lib.inphase_core_start(self._core)
        if rc < 0:
            raise StoreError(f"the cycle thread does not start: errno {-rc}")

    def ended(self, timeout_ns: int = 0) -> bool:
        """True if the cycle thread has ended, waiting up to timeout_ns."""
        return bool(lib.inphase_core_join(self._core, timeout_ns) == 0)

    @property
    def handle(self) -> Any:
        """The C core, for `Stops`."""
        return self._core

    # ---- lock step -----------------------------------------------------------------------

    def turn(self, cycles: int) -> int | None:
        """Run on to the frame that the policy takes next; its number. None: `cycles` in all were
        run (0: no bound), or the core has stopped."""
        number: int = lib.inphase_core_turn(self._core, cycles)
        return None if number < 0 else number

    def answer(self, reason: int, values: Any, count: int) -> None:
        """Give the policy's answer to that frame. `values` is a C double array of so many; it is
        ignored if there is a reason."""
        lib.inphase_core_answer(self._core, reason, values, count)

    def post(self, cycle: int, posted_ns: int, reason: int, values: Any, count: int) -> None:
        """An answer to the frame of a cycle, as it came at a time of its own. Raises ValueError for
        one that is none."""
        if lib.inphase_core_post(self._core, cycle, posted_ns, reason, values, count) < 0:
            raise ValueError(f"no answer to cycle {cycle}: reason {reason}, {count} values")

    def answer_turn(self, reason: int, values: Any, count: int, cycles: int) -> int | None:
        """Both in one call: `answer`, then `turn`."""
        number: int = _answer_turn(self._core, reason, values, count, cycles)
        return None if number < 0 else number

    def answers_of(self, values: Any, count: int, cycles: int = 0) -> None:
        """Set what `answered` gives: a C double array of so many, which stays where it is."""
        self._answers = (values, count, cycles)
        self.answered = partial(_answer_turn, self._core, 0, *self._answers)

    def refused(self, reason: int) -> int:
        """`answered`, with a reason in place of the values."""
        number: int = _answer_turn(self._core, reason, *self._answers)
        return number

    def run(self, cycles: int) -> int:
        """Whole cycles without leaving C; the number run."""
        return int(lib.inphase_core_run(self._core, cycles))

    @property
    def cycles(self) -> int:
        """Cycles run so far."""
        return int(lib.inphase_core_progress(self._core, self._number))

    @property
    def frames(self) -> int:
        """Frames latched so far."""
        lib.inphase_core_progress(self._core, self._number)
        return int(self._number[0])

    def world_failure(self) -> Failure | None:
        """How the world failed; None: it did not."""
        out = ffi.new("struct inphase_world_failure *")
        lib.inphase_core_world_failure(self._core, out)
        if not out.what:
            return None
        text = ffi.string(out.message).decode(errors="replace")
        return Failure(int(out.what), int(out.cycle), int(out.world_ns), text)

    def given(
        self, rows: bytes, values: Sequence[NDArray[np.float64] | None], unwritten: int
    ) -> None:
        """Tell what devices did in the next cycle of a recorded run, on virtual time.

        rows: struct inphase_row of each sensor. values: the numbers of its new sample. unwritten: a
        bit per actuator to which nothing could be written. Raises ValueError for others than this
        plan's sensors, and for a status or a reason that this version does not know.
        """
        sizes = [one.dtype.itemsize for one in self.plan.sensors]
        fits = len(values) == len(sizes) and len(rows) == len(sizes) * ROW.size
        pairs = zip(values, sizes, strict=False)
        if not fits or any(one is not None and one.nbytes != size for one, size in pairs):
            raise ValueError(
                f"rows or samples are not those of {len(sizes)} sensors of {sizes} bytes"
            )
        numbers = [None if one is None else ffi.from_buffer("double[]", one) for one in values]
        pointers = ffi.new("double *[]", [one or ffi.NULL for one in numbers] or 1)
        made = ffi.from_buffer("struct inphase_row[]", rows)
        if lib.inphase_core_given(self._core, made, pointers, unwritten) < 0:
            raise ValueError("a status or a reason that this version does not know")
        self._given = (made, pointers, numbers)  # the core reads them until the next call

    def fault(self, kind: str, sensor: int, from_cycle: int, count: int, argument: int = 0) -> None:
        """Plan a fault of a simulated device (see FAULTS), for `count` cycles."""
        rc = lib.inphase_core_fault(
            self._core,
            ffi.new("struct inphase_fault *", [FAULTS[kind], sensor, from_cycle, count, argument]),
        )
        if rc < 0:
            raise ValueError(f"fault {kind} cannot be planned: errno {-rc}")

    def close(self) -> None:
        """Stop the cycle thread and unmap the segment."""
        if self._core is not None:
            lib.inphase_core_close(self._core)
            if self._kept is None:
                self.segment.close()
            self._core = None
            self.answered = _closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _closed() -> int:
    raise StoreError("the run is closed: there is no frame to answer; reset, or start another one")


def draw_episode(seed: int, turn: int, kind: int) -> float:
    """A draw in 0..1 for a knob, keyed by the seed, an episode or cycle, and the knob's own key."""
    mask = 0xFFFFFFFFFFFFFFFF
    return float(lib.inphase_draw(seed & mask, turn & mask, lib.INPHASE_DRAW_EPISODE, kind & mask))
