"""The runtime: supervisor of one robot on the wall clock.

It opens the devices, makes the store and the core, starts gateway and policy by exec, and then only
watches: the cycle is C, in a thread that this code never holds up. `inphase.Runner` has it in a
process of its own, `runner_process`.
"""

import contextlib
import grp
import math
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from msgspec import structs

from inphase.core.config import store_size
from inphase.core.core import Core
from inphase.core.realtime import is_realtime
from inphase.core.world_seam import require
from inphase.errors import InphaseError, RealtimeError, RuntimeFault, StoreError
from inphase.frames import store
from inphase.frames.record_layout import REASONS, STATES
from inphase.frames.store_follower import StoreFollower
from inphase.host import locks, preflight, store_names
from inphase.host.locks import DeviceLock
from inphase.host.process import Process, thread_environment
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.policy import remote_socket
from inphase.runtime import state_messages, summary
from inphase.runtime.attached_devices import Devices
from inphase.runtime.gpio import Lines
from inphase.runtime.guarding.guard import Given, Guard, loose_note, take_notes
from inphase.runtime.guarding.own_emulator import is_emulated
from inphase.runtime.motion.power import Power
from inphase.runtime.stops import Stops
from inphase.runtime.workers.supervisor import Workers
from inphase.schedule import Schedule
from inphase.world.world_process import WorldProcess

_TICK_S = 0.05
_LOOK_S = 0.002
_EVENTS_MAX = 1000
_STOP_KEYS = " eE"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
_ARMED = ("armed", "running", "ramping")
_WORLD_GONE_S = 0.2  # in which the frames say that its devices are OFFLINE; then the run ends
_JOIN_NS = 3_000_000_000
_REST_S = 1.5  # in which a ramp has ended: longer ones are cut, or refused with the schedule
_GRANT_S = 2.0  # in which feedback has come that is good enough to be armed on


@dataclass(frozen=True)
class Wishes:
    """What a user asks of one run."""

    cycles: int = 0
    """0: until it is stopped"""
    observe: bool = False
    """read and publish, never write to an actuator"""
    client_policy: bool = False
    """whoever asks runs the policy itself, and is given its mailbox"""
    client_threads: bool = False
    """whoever asks runs the drivers of home `thread` itself"""
    simulate: bool = False
    """in the schedule's world, in real time; no device is touched"""
    debug_hold: bool = False
    """the guard stops the devices of a frozen runtime and leaves it alive, for a debugger"""


class Runtime:
    """One run. `start`, then `tend` until it says that it is over, then `close`.

    Thread: the main one (signals). Messages for a person go to `say`, which does not wait. keys_fd
    and line_fd: a terminal and a socket that stop the robot, see `Stops`.
    """

    def __init__(
        self,
        described: Schedule,
        wishes: Wishes,
        say: Callable[[str], None],
        *,
        keys_fd: int = -1,
        line_fd: int = -1,
    ) -> None:
        self.schedule = described
        self.wishes = wishes
        self.say = say
        self._events: deque[str] = deque(maxlen=_EVENTS_MAX)
        self._earlier_events = 0
        self._stop_fds = keys_fd, line_fd
        self._stops: Stops | None = None
        self.core: Core | None = None
        self.reader: store.Reader | None = None
        self._undo = contextlib.ExitStack()
        self._processes: list[Process] = []
        self._ended: list[Process] = []
        """those of them whose end was told"""
        self._policy: Process | None = None
        self._gateway: Process | None = None
        self._emulator: Process | None = None
        self._locks: dict[str, DeviceLock] = {}
        """by device, until it is lost for the first time"""
        self._devices: Devices | None = None
        self._lines: Lines | None = None
        self._workers: Workers | None = None
        self._world: WorldProcess | None = None
        self._guard: Guard | None = None
        self._guard_pages: tuple[int, int] | None = None
        self._world_end_s = math.inf
        self.mailbox: store.Segment | None = None
        """the policy's, from `start` on"""
        self._policy_end: str | None = None
        self._stop: tuple[str, int] | None = None
        self._page_faults: int | None = None
        self._segments: list[store.Segment] = []
        self._starts = 0
        """first commands that were refused, as far as they were looked at"""
        self._told_start = ""
        self._follower: StoreFollower | None = None
        """of the frames that say so, made when there are some"""
        self._told = 0
        """what is latched, as far as it was said"""
        self._power: Power | None = None

    # ---- start ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Everything up to a core that could start: nothing has moved yet.

        Raises ScheduleError, DeviceError, RealtimeError, StoreError, RuntimeFault.
        """
        described = self.schedule
        if self.wishes.simulate:
            require(described)
        self.plan = planning.make(described)
        self._check_rights()
        self._check_guarded()
        if not self.wishes.simulate:
            self._lock_devices(is_made_later=described.emulator is not None)
        locks.clean()
        for note in take_notes(described.name):
            self._tell(note)
        for robot in sorted(set(store_names.clean())):
            self._tell(f"the previous run of {robot} died; its name was removed")
        for path in store_names.named(described.name):
            self._tell(
                f"robot {described.name} runs already, {store_names.who_runs(path)}; while both "
                f"run, each is found by its path alone"
            )
        if self.wishes.simulate:
            described = self._start_world()
        elif described.emulator is not None:
            self._emulator = self._start_process(
                "emulator",
                described.emulator.module,
                [str(described.path)],
                described.path.resolve().parent,
            )
            # hardware does not slow down when the computer is busy
            self._emulator.raise_priority(described.cycle.emulator_priority)
            for lock in self._locks.values():
                lock.resolve()
        self._check_starts()
        self._devices = Devices(self.plan, self._locks, self._tell)
        self._undo.callback(self._devices.close)
        self._lines = Lines(self.plan, self.wishes.simulate)
        self._undo.callback(self._lines.close)
        self.plan = replace(
            planning.make(described, self.plan.drivers), client_policy=self.wishes.client_policy
        )
        self._make_core()

    def _lock_devices(self, *, is_made_later: bool = False) -> None:
        """Keep other runtimes from the devices, before anything of theirs is touched. Raises
        DeviceError.

        is_made_later: the emulator makes some of them, which is not started yet.
        """
        for name, driver in self.plan.drivers.items():
            robot = self.schedule.name
            lock = DeviceLock(name, driver.address, robot, is_made_later=is_made_later)
            self._locks[name] = lock
            self._undo.callback(lock.close)

    def _hold_ns(self) -> int:
        """How old the cycle's heartbeat may be, with the rights that there are."""
        return self.plan.guard_hold_ns(is_realtime(self.schedule.cycle))

    def _held(self, plan: Plan) -> Plan:
        """A plan whose motion is latched by every pause that the guard acts upon: a runtime that it
        leaves alive then ramps when it goes on, and has to be armed."""
        cycle = plan.schedule.cycle
        # from the heartbeat on the guard counts, from the next grid point the core
        hold_ms = (self._hold_ns() - cycle.period_ns) / 1e6
        cycle = structs.replace(cycle, resumed_after_ms=min(cycle.resumed_after_ms, hold_ms))
        return replace(plan, schedule=structs.replace(plan.schedule, cycle=cycle))

    def _start_world(self) -> Schedule:
        """Start the world's process; the schedule as it is simulated."""
        self._world = WorldProcess(self.schedule)
        self._undo.callback(self._world.close)
        self._processes.append(self._world.process)
        self.plan = self._world.plan()
        self._lock_devices()
        return self.plan.schedule

    def _make_core(self) -> None:
        described = self.schedule
        if self.wishes.debug_hold:
            self.plan = self._held(self.plan)
        epoch = store.new_epoch()
        path = store_names.path_of(described.name, epoch)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        group = described.store.group
        self.core = Core(
            self.plan,
            epoch=epoch,
            description=self.plan.description(
                epoch, host=boot, store=path, wall_offset_ns=time.time_ns() - time.monotonic_ns()
            ),
            observe=self.wishes.observe,
            cycles=self.wishes.cycles,
            lines=not self.wishes.simulate,
        )
        self._undo.callback(self._close_segments)  # after the core, which reads them
        self._undo.callback(self.core.close)
        self._stops = Stops(self.core, *self._stop_fds)
        self._undo.callback(self._stops.close)
        self._make_mailbox()
        outside = self.wishes.client_threads
        self._workers = Workers(
            self.plan,
            self.core,
            self._locks,
            self._tell,
            outside=outside,
            world=self._world,
        )
        assert self._devices is not None
        self._power = Power(self.plan, self.core, [self._devices, self._workers], self._tell)
        if self._stop is not None:  # asked for before there was a core
            self.stop(*self._stop)
        fds = [self.core.segment.fd, *self._workers.rings]
        gid = grp.getgrnam(group).gr_gid if group else -1
        self.name = store_names.Name(described.name, epoch, fds, gid)
        self._undo.callback(self.name.close)
        self.reader = store.Reader(self.name.path)
        self._undo.callback(self.reader.close)

    @property
    def guests(self) -> list[str]:
        """The devices that the caller's own process drives."""
        assert self._workers is not None
        return [link.name for link in self._workers.links if link.is_guest]

    @property
    def client_fds(self) -> list[int]:
        """What the caller's own process gets of the store: the core's segment; per guest its ring,
        eventfd, bell and, where the guard is to have its device, the line to hand it on; where it
        runs the policy, the mailbox and its bell."""
        assert self.core is not None and self._workers is not None
        fds = [self.core.segment.fd]
        for link in self._workers.links:
            if link.is_guest:
                fds += [link.fds.ring, link.fds.wake, link.fds.bell]
                if link.guests_hand is not None:
                    fds.append(link.guests_hand.fileno())
        if self.wishes.client_policy and self.mailbox is not None:
            fds += [self.mailbox.fd, self._bell.fd]
        return fds

    def _close_segments(self) -> None:
        if self._workers is not None:
            self._workers.close()
        for segment in self._segments:
            segment.close()

    @property
    def _has_control(self) -> bool:
        """Whether clients may stop the robot."""
        return self.schedule.gateway is not None and self.schedule.gateway.control is not None

    def _make_mailbox(self) -> None:
        assert self.core is not None
        is_ours = self.schedule.policy is not None and not self.wishes.observe
        if is_ours or self.wishes.client_policy:
            self.mailbox, self._bell = self.core.mailbox()
            self._segments += [self.mailbox, self._bell]

    def _start_gateway(self) -> None:
        assert self.core is not None
        page = store.Segment.estop_page(self.core.epoch)
        self._segments.append(page)
        self.core.estop_page(page)
        arguments = [str(self.schedule.path), self.name.path, str(page.fd)]
        self._gateway = self._start_process(
            "gateway", "inphase.runtime.gateway", arguments, pass_fds=[page.fd]
        )

    def _start_policy(self) -> None:
        assert self.mailbox is not None and self.schedule.policy is not None
        fds = [self.mailbox.fd, self._bell.fd]
        self._policy = self._start_process(
            "policy",
            "inphase.policy",
            [str(self.schedule.path), self.name.path, *map(str, fds)],
            pass_fds=fds,
            environment=thread_environment(self.schedule.policy.threads),
            has_scratch=True,
        )
        # it has given up the right to take one, before it ran what the schedule names
        priority = self.schedule.policy.priority
        if priority and not self._policy.raise_priority(priority):
            self._tell(f"policy: SCHED_FIFO {priority} is refused; runs on")

    def start(self) -> None:
        """Start the processes, enable the devices, start the cycle."""
        assert self.core is not None
        assert self._devices is not None and self._workers is not None
        assert self._lines is not None
        described = self.schedule
        if described.gateway is not None:
            self._start_gateway()
        if self.mailbox is not None and not self.wishes.client_policy:
            self._start_policy()
        # a run that is to end already switches nothing on
        passive = self.wishes.observe or self._stop is not None
        self._workers.start(self.core, passive)
        if not passive:
            self._start_guard()
        self._devices.start(self.core, passive)  # last: a watchdog does not wait for workers
        self._lines.hand_over(self.core)
        self.core.beat()
        if not passive:
            self.core.arm()
        self.core.start()

    def _start_guard(self, given: Sequence[Given] = ()) -> None:
        """Start the guard, where there is a device that it can stop. Raises RuntimeFault.

        given: the devices that an earlier one had.
        """
        assert self.core is not None
        assert self._devices is not None and self._workers is not None
        for index, _ in enumerate(self.plan.actuators):
            if self.wishes.simulate:  # no device
                self.core.guarded(index, True)
        if self.wishes.simulate or all(a.stop is None for a in self.plan.actuators):
            return
        if self._guard_pages is None:
            self._guard_pages = self.core.guard(self._hold_ns())
            for fd in self._guard_pages:
                self._undo.callback(os.close, fd)
        cycle = self.schedule.cycle
        self._guard = Guard(
            self._guard_pages,
            store_names.note_path(self.name.path),
            cycle.priority,
            cycle.cpu,
            hold=self.wishes.debug_hold,
            is_emulated=self._is_emulated,
        )
        for what, why in self._guard.refused.items():
            self._tell(f"guard: {what} is refused: {why}; runs on")
        for device in given:
            if device.worker < 0:
                self._guard.give(device)
                self.core.guarded(device.actuator, True)
        self._devices.guard = self._workers.guard = self._guard
        self._workers.give(self.core)

    def _is_emulated(self, fd: int) -> bool:
        """Whether this run's emulator, and nothing real, answers at a descriptor."""
        emulator = self._emulator
        return emulator is not None and emulator.ended() is None and is_emulated(fd, emulator.pid)

    def _check_guarded(self) -> None:
        """Refuse to move what nothing would stop. Raises ScheduleError."""
        if self.wishes.observe or self.wishes.simulate or not self.plan.unguarded:
            return
        name = self.plan.unguarded[0]
        raise self.schedule.error(
            f"actuator.{name}.device",
            "nothing would stop it when the runtime dies: its driver verifies no watchdog, and the "
            "guard has no bytes of it; switch the device's watchdog on, let its driver declare an "
            "encoding or a stop of kind BYTES, or run with --observe",
        )

    def _check_starts(self) -> None:
        """Refuse to move joints of which nobody says where they are. Raises ScheduleError."""
        for actuator in self.plan.actuators if not self.wishes.observe else ():
            is_guest = self.wishes.client_threads and actuator.home == "thread"
            driver = self.plan.drivers[actuator.schedule.device]
            if actuator.needs_goals and (is_guest or not planning.says_goals(driver)):
                raise self.schedule.error(
                    f"actuator.{actuator.name}.feedback",
                    "the place of its joints is unknown: the key is missing, and the driver does "
                    'not state it; add feedback = "SENSOR.FIELD", a position of each of its joints',
                )

    def _check_rights(self) -> None:
        """Refuse to run without a right that the schedule requires. Raises RealtimeError."""
        if self.schedule.cycle.realtime != "require":
            return
        needed = ("SCHED_FIFO", "locked memory", "core")
        lacking = [
            check
            for check in preflight.examine(self.schedule, *store_size(self.plan))
            if not check.ok and check.name in needed
        ]
        if lacking:
            text = "; ".join(f"{c.name}: {c.found}, needed {c.wanted}: {c.remedy}" for c in lacking)
            raise RealtimeError(
                f'{self.schedule.path}: realtime = "require", and the machine lacks {text}. Or set '
                f'realtime = "prefer": every frame then says NOT_REALTIME'
            )

    def _start_process(
        self,
        name: str,
        module: str,
        arguments: list[str],
        folder: Path | None = None,
        *,
        pass_fds: Sequence[int] = (),
        environment: dict[str, str] | None = None,
        has_scratch: bool = False,
    ) -> Process:
        child = Process(
            name,
            module,
            arguments,
            pass_fds,
            folder=folder,
            environment=environment,
            has_scratch=has_scratch,
        )
        self._processes.append(child)
        # the emulator is waited for, so that its devices are there to be opened
        child.wait_ready(given_up=lambda: self._stop is not None and self.core is not None)
        return child

    # ---- while it runs -------------------------------------------------------------------

    def tend(self, also: list[int] | None = None) -> list[int]:
        """Wait a moment or for something to happen, and see to it. Which of `also` are readable."""
        assert self.core is not None and self.reader is not None
        assert self._devices is not None and self._workers is not None
        assert self._stops is not None
        self.core.beat()
        fds = [p.pidfd for p in self._processes if p.pidfd >= 0 and p.ended() is None]
        fds.append(self._stops.fd)
        fds += self._workers.pidfds
        fds += [self._guard.pidfd] if self._guard is not None else []
        ready, _, _ = select.select([*fds, *(also or [])], [], [], _TICK_S)
        self._tend_guard()
        self._devices.tend(self.core)
        if not self.over:
            self._workers.tend(self.core, self.reader)
        self._note_page_faults()
        self._note_latch()
        self._note_start()
        self._switch_off()
        for child in self._processes:
            self._note_end(child)
        if time.monotonic() - self._world_end_s > _WORLD_GONE_S:
            self.stop("world")
        return [fd for fd in ready if fd in (also or [])]

    def _tend_guard(self) -> None:
        """A guard that ended is replaced at once; where that fails the run ends. The core latches
        motion, however soon the new one has the devices."""
        if self._guard is None or (how := self._guard.ended()) is None:
            return
        assert self.core is not None
        assert self._devices is not None and self._workers is not None
        given = self._guard.given
        for device in given:
            self.core.guarded(device.actuator, False)
        self._guard.close()
        self._guard = self._devices.guard = self._workers.guard = None
        self._tell(f"the guard ended ({how}); it is started again")
        try:
            self._start_guard(given)
        except RuntimeFault as error:
            self._tell(str(error))
            self.stop("request")

    def _note_end(self, child: Process) -> None:
        how = child.ended()
        if how is None or child in self._ended:
            return
        self._ended.append(child)
        self._tell(f"{child.name} ended: {how}")
        if child is self._policy:
            self._policy_end = how
            assert self.core is not None
            self.core.policy_gone(died=True)
            self._remove_socket()
        elif child is self._gateway and self._has_control:
            assert self.core is not None
            self._tell("no client can stop the robot any more; arm to go on without")
            self.core.latch(REASONS.index("gateway"))
        elif self._world is not None and child is self._world.process:
            self._world_end_s = time.monotonic()

    def _note_latch(self) -> None:
        """Say once what is latched, and what to do."""
        assert self.reader is not None
        status = self.reader.status()
        if status["latched"] == self._told:
            return
        self._told = status["latched"]
        if self._told:
            self._tell(state_messages.latched(self.plan, status))

    def _note_start(self) -> None:
        """Say why no first command is taken, where a joint is outside of its range: once per
        arming and place."""
        assert self.reader is not None
        refused = self.reader.reasons().get("start", 0)
        if refused == self._starts:
            return
        self._starts = refused
        if self._follower is None:
            self._follower = StoreFollower(self.name.path, from_first=True)
            self._undo.callback(self._follower.close)
        try:
            said = state_messages.outside(self.plan, self._follower.next(0, newest=True))
        except (TimeoutError, store.Lost):
            return
        if said and said != self._told_start:
            self._told_start = said
            self._tell(said)

    def _switch_off(self) -> None:
        """After an emergency stop, once all is at rest, or rest cannot be known: what `on_estop`
        says."""
        assert self._power is not None
        is_over = self._state() in ("faulted", "uncontrolled")
        self._power.follow(REASONS[self._told] == "estop" and is_over)

    def estop(self) -> None:
        """Emergency stop, in the next act. Callable from a signal handler."""
        if self.core is not None:
            self.core.estop()

    def _note_page_faults(self) -> None:
        """Read the cycle thread's page faults off the cycle thread, for its frames."""
        assert self.core is not None and self.reader is not None
        thread = self.reader.status()["thread_id"]
        if not thread:
            return
        try:
            text = Path(f"/proc/self/task/{thread}/stat").read_text()
        except OSError:
            return
        fields = text.rpartition(")")[2].split()
        faults = int(fields[7]) + int(fields[9])  # minflt and majflt, proc(5)
        if self._page_faults is None:
            self._page_faults = faults
        self.core.page_faults(faults - self._page_faults)

    @property
    def over(self) -> bool:
        """Whether the cycle has ended."""
        return self.core is not None and self.core.ended()

    def stop(self, reason: str, detail: int = 0) -> None:
        """Ask for the ramp and the end, at any time. Callable from a signal handler."""
        if self._stop is None:
            self._stop = (reason, detail)
        if self.core is not None:
            self.core.stop(REASONS.index(reason), detail)

    def asks_to_arm(self) -> int | None:
        """After `tend`: a key or SIGUSR1 asks to arm; how many emergency stops there were by then.
        None: nobody asks, or a key that stops came after."""
        assert self.reader is not None and self._stops is not None
        estops = self.reader.status()["estops"]  # before the keys: a later one then differs
        keys = self._stops.take()
        last_stop = max(keys.rfind(key) for key in _STOP_KEYS)
        return estops if keys.rfind("a") > last_stop else None

    def arm(self, estops: int | None = None) -> None:
        """The local reset: enable devices, and let motion start again once all is well.

        estops: so many emergency stops are known to whoever asks; one more wins. May take seconds,
        in which nothing is live. Raises DeviceError, RuntimeFault: nothing is armed then.
        """
        assert self.core is not None
        assert self._devices is not None and self._workers is not None
        if self.wishes.observe or not self.plan.actuators:
            raise RuntimeFault("nothing is armed: this run moves nothing")
        if self._is_armed():
            self.say("nothing is latched: motion is armed already")
            return
        assert self.reader is not None
        if pressed := self.reader.status()["estop"] & 0xFFFF:
            raise RuntimeFault(f"nothing is armed: {state_messages.pressed(self.plan, pressed)}")
        known = self.reader.status()["estops"] if estops is None else estops
        if not self._wait(lambda: self._state() != "ramping", _REST_S):
            raise RuntimeFault("nothing is armed: a ramp has not come to rest; try again")
        self._wait(lambda: not self._moving(), _REST_S)
        if moving := self._moving():
            raise RuntimeFault(f"nothing is armed: {state_messages.moving(self.plan, moving[0])}")
        self._workers.arm(self.core, False)
        self._devices.arm(self.core, False)
        self.core.beat()
        self.core.arm_after(known)
        if not self._wait(self._is_armed, _GRANT_S, lambda: self._estops() != known):
            self.core.disarm()
            raise RuntimeFault(f"nothing is armed: {self._obstacle(known)}")
        self._told_start = ""
        self._tell("armed: motion starts from where the robot is")

    def try_to_arm(self, estops: int) -> None:
        """Likewise; why not is said."""
        try:
            self.arm(estops)
        except InphaseError as error:
            self.say(str(error))

    def _estops(self) -> int:
        assert self.reader is not None
        return self.reader.status()["estops"]

    def _moving(self) -> list[int]:
        """The actuators that are measured to move: they are left to the core, which tells them to
        stop."""
        assert self.core is not None
        return [i for i in range(len(self.plan.actuators)) if self.core.moves(i)]

    def _state(self) -> str:
        """One of STATES."""
        assert self.reader is not None
        return STATES[self.reader.status()["state"]]

    def _is_armed(self) -> bool:
        assert self.reader is not None
        status = self.reader.status()
        return not status["latched"] and STATES[status["state"]] in _ARMED

    def _wait(
        self,
        done: Callable[[], bool],
        timeout_s: float,
        given_up: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Whether that was so within the time, before the run was over or it was given up."""
        assert self.core is not None
        until_s = time.monotonic() + timeout_s
        while not done():
            if self.over or given_up() or time.monotonic() > until_s:
                return False
            self.core.beat()
            time.sleep(_LOOK_S)
        return True

    def _obstacle(self, estops: int) -> str:
        """Why arming is not granted, for a person."""
        assert self.reader is not None
        status = self.reader.status()
        if status["estops"] != estops:
            return "an emergency stop came while it was being armed; arm again"
        return state_messages.obstacle(self.plan, status)

    @property
    def events(self) -> list[str]:
        """What was told so far; of very many the newest."""
        earlier = [f"{self._earlier_events} earlier events were left out"]
        return earlier * (self._earlier_events > 0) + list(self._events)

    def _tell(self, event: str) -> None:
        self._earlier_events += len(self._events) == _EVENTS_MAX
        self._events.append(event)
        self.say(event)

    # ---- end -----------------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        """After the cycle has ended: switch off what is to be off, and sum up."""
        assert self.core is not None and self.reader is not None
        assert self._power is not None
        self._note_page_faults()
        self._note_latch()
        self._power.end()
        self._note_loose()
        return summary.make(self.plan, self.reader, self.events, self._policy_end, self.mailbox)

    def _note_loose(self) -> None:
        """Say what is not known to be at rest at the end, and leave a note for the next run."""
        if self._state() != "uncontrolled":
            return
        assert self.core is not None and self.reader is not None
        every = list(range(len(self.plan.actuators)))
        loose = [i for i in every if self.core.loose(i)] or every  # none: a ramp was cut
        actuators = [self.plan.actuators[i].name for i in loose]
        self._tell(state_messages.loose(actuators))
        if self.wishes.simulate:
            return  # what moved in the world is gone with it
        cycle = self.reader.status()["cycle"]
        try:
            store_names.leave_note(self.name.path, loose_note(cycle, actuators))
        except (StoreError, OSError) as error:
            self._tell(f"the next run is not told of it: {error}")

    def close(self) -> None:
        """End everything that was started, in bounded time; always callable."""
        if self.core is not None and not self.over:
            self.stop("request")
            self.core.ended(_JOIN_NS)
        if self._power is not None:
            self._power.end()
        if self._guard is not None:
            self._guard.close()
        for child in self._processes:
            child.ask_to_end()
        if self._workers is not None:
            self._workers.ask_to_end()
        for child in reversed(self._processes):
            child.stop()
        self._remove_socket()
        self._undo.close()

    def _remove_socket(self) -> None:
        """Where a remote policy came to, which its process may not remove."""
        if self._policy is not None:
            remote_socket.remove_socket(self.schedule)


@contextlib.contextmanager
def signals_stop(runtime: Runtime) -> Iterator[None]:
    """SIGINT, SIGTERM, SIGQUIT and SIGHUP ramp the robot and end the run; SIGUSR1 arms it again.

    Once there is a core, a thread in C takes them (`Stops`); these handlers are for the time
    before, and run as late as the interpreter likes. A SIGHUP that is ignored already (nohup) stays
    so; one that came is ignored from then on: its terminal is gone, and it often comes twice.
    """
    came: set[int] = set()

    def on_stop(number: int, _: FrameType | None) -> None:
        came.add(number)
        runtime.stop("signal", number)

    wanted: dict[int, Any] = dict.fromkeys(_STOP_SIGNALS, on_stop)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        wanted[signal.SIGHUP] = on_stop
    wanted[signal.SIGUSR1] = lambda _number, _frame: None  # taken up by `Runtime.asks_to_arm`
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        if signal.SIGHUP in came:
            before[signal.SIGHUP] = signal.SIG_IGN
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    described: Schedule,
    wishes: Wishes,
    say: Callable[[str], None],
    watching: Callable[[Runtime], AbstractContextManager[None]] = lambda _: (
        contextlib.nullcontext()
    ),
    keys_fd: int = -1,
) -> dict[str, Any]:
    """Run a robot to its end; its summary. watching: shows it in a thread of its own, from its
    start to its end. keys_fd: a terminal, where space and e are the emergency stop and a arms.

    Raises what `Runtime.prepare` raises.
    """
    runtime = Runtime(described, wishes, say, keys_fd=keys_fd)
    with signals_stop(runtime):
        try:
            runtime.prepare()
            runtime.start()
            with watching(runtime):
                while not runtime.over:
                    runtime.tend()
                    if (estops := runtime.asks_to_arm()) is not None:
                        runtime.try_to_arm(estops)
            return runtime.finish()
        finally:
            runtime.close()
