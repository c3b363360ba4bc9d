"""The runtime: supervisor of one robot on the wall clock.

It opens the devices, makes the store and the core, and starts gateway and policy by exec. Then it
only watches: the cycle is C, in a thread that this code never holds up. `inphase.Runner` has it in
a process of its own, `runner_process`.
"""

import contextlib
import math
import select
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from inphase.core.core import Core
from inphase.core.world_seam import require
from inphase.errors import InphaseError
from inphase.frames import store
from inphase.frames.record_layout import REASONS
from inphase.host import locks, store_names
from inphase.host.group import group_of
from inphase.host.locks import DeviceLock
from inphase.host.process import Process
from inphase.plan import plan as planning
from inphase.runtime import summary
from inphase.runtime.attached_devices import Devices
from inphase.runtime.attribution.attribution import Attribution, peers_of
from inphase.runtime.attribution.host_counts import HostCounts
from inphase.runtime.children import Children
from inphase.runtime.client_processes import ClientProcesses
from inphase.runtime.events import Events
from inphase.runtime.gpio import Lines
from inphase.runtime.guarding.guard import take_notes
from inphase.runtime.guarding.guard_supervisor import GuardSupervisor, held
from inphase.runtime.motion import preconditions
from inphase.runtime.motion.arming import Arming
from inphase.runtime.motion.power import Power
from inphase.runtime.policy_child import PolicyChild
from inphase.runtime.requests.episode_marks import EpisodeMarks
from inphase.runtime.requests.keyboard import discard_typed
from inphase.runtime.requests.signals import signals_stop
from inphase.runtime.requests.stops import Stops
from inphase.runtime.run_options import RunOptions
from inphase.runtime.run_recorder import RunRecorder
from inphase.runtime.words import verdict
from inphase.runtime.words.notices import Notices
from inphase.runtime.workers import opened
from inphase.runtime.workers.worker_supervisor import WorkerLink, Workers
from inphase.schedule import Schedule
from inphase.schedule.motion import park_times
from inphase.world.world_process import WorldProcess

_TICK_S = 0.05
_STOP_KEYS = " eE"
_WORLD_GONE_S = 0.2  # in which the frames say that its devices are OFFLINE; then the run ends
_JOIN_NS = 2_000_000_000  # beyond the longest stop


class Runtime:
    """One run. `start`, then `tend` until it says that it is over, then `close`.

    Thread: the main one (signals). Messages for a person go to `say`, which does not wait. keys_fd
    and line_fd: a terminal and a socket that stop the robot, see `Stops`.
    """

    def __init__(
        self,
        described: Schedule,
        options: RunOptions,
        say: Callable[[str], None],
        *,
        keys_fd: int = -1,
        line_fd: int = -1,
    ) -> None:
        self.schedule = described
        self.options = options
        self.say = say
        self.events = Events(say)
        self._tell = self.events.tell
        self._keys_fd, self._line_fd = keys_fd, line_fd
        self._stops: Stops | None = None
        self.core: Core | None = None
        self.reader: store.Reader | None = None
        self._undo = contextlib.ExitStack()
        # a run that is to end waits for no child that gets ready
        self._children = Children(lambda: self._stop is not None and self.core is not None)
        page = options.page or described.page
        self._clients = ClientProcesses(described, page, self._children, say)
        self._policy: PolicyChild | None = None
        self._emulator: Process | None = None
        self._locks: dict[str, DeviceLock] = {}
        """by device, until it is lost for the first time"""
        self._devices: Devices | None = None
        self._lines: Lines | None = None
        self._workers: Workers | None = None
        self._world: WorldProcess | None = None
        self._guard: GuardSupervisor | None = None
        self._world_end_s = math.inf
        self.mailbox: store.Segment | None = None
        """the policy's, from `start` on"""
        self._lease_page: store.Segment | None = None
        self._stop: tuple[str, int] | None = None
        self._host_counts: HostCounts | None = None
        self._attribution: Attribution | None = None
        self._segments: list[store.Segment] = []
        self._notices: Notices | None = None
        self._power: Power | None = None
        self._arming: Arming | None = None

    # ---- start ---------------------------------------------------------------------------

    def prepare(self) -> None:
        """Everything up to a core that could start: nothing has moved yet.

        Raises ScheduleError, DeviceError, RealtimeError, StoreError, RuntimeFault.
        """
        described = self.schedule
        if self.options.simulate:
            require(described)
        self._recorder = RunRecorder(described, self.options)
        self.plan = planning.make(described)
        preconditions.check_rights(described, self.plan)
        preconditions.check_guarded(self.plan, self.options)
        if not self.options.simulate:
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
        if self.options.simulate:
            described = self._start_world()
        elif described.emulator is not None:
            self._emulator = self._children.start(
                "emulator",
                described.emulator.module,
                [str(described.path)],
                described.path.resolve().parent,
            )
            # hardware does not slow down when the computer is busy
            self._emulator.raise_priority(described.cycle.emulator_priority)
            for lock in self._locks.values():
                lock.resolve()
        preconditions.check_starts(self.plan, self.options)
        self._devices = Devices(self.plan, self._locks, self._tell)
        self._undo.callback(self._devices.close)
        self._lines = Lines(self.plan, self.options.simulate)
        self._undo.callback(self._lines.close)
        self.plan = opened.as_asked(opened.of_opened(self.plan), self.options)
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

    def _start_world(self) -> Schedule:
        """Start the world's process; the schedule as it is simulated."""
        self._world = WorldProcess(self.schedule)
        self._undo.callback(self._world.close)
        self._children.add(self._world.process)
        self.plan = self._world.plan()
        self._lock_devices()
        return self.plan.schedule

    def _make_core(self) -> None:
        if self.options.debug_hold:
            self.plan = held(self.plan)
        epoch = store.new_epoch()
        path = store_names.path_of(self.schedule.name, epoch)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self.core = Core(
            self.plan,
            epoch=epoch,
            description=self.plan.description(
                epoch, host=boot, store=path, wall_offset_ns=time.time_ns() - time.monotonic_ns()
            ),
            observe=self.options.observe,
            cycles=self.options.cycles,
            lines=not self.options.simulate,
        )
        self._undo.callback(self._close_segments)  # after the core, which reads them
        self._undo.callback(self.core.close)
        self._stops = Stops(self.core, self._line_fd)
        self._undo.callback(self._stops.close)
        self._page = self.core.client_page()
        self._segments.append(self._page)
        if self.options.leased:
            self._lease_page = self.core.lease_page()
            self._segments.append(self._lease_page)
        self.episodes = EpisodeMarks(self._page, self._tell)
        self._undo.callback(self.episodes.close)
        self._make_mailbox()
        outside = self.options.client_threads
        self._workers = Workers(
            self.plan,
            self.core,
            self._locks,
            self._tell,
            outside=outside,
            world=self._world,
        )
        if self._stop is not None:  # asked for before there was a core
            self.stop(*self._stop)
        fds = [self.core.segment.fd, *self._workers.rings]
        group = group_of(self.schedule)
        self.name = store_names.Name(self.schedule.name, epoch, fds, -1 if group is None else group)
        self._undo.callback(self.name.close)
        self.reader = store.Reader(self.name.path)
        self._undo.callback(self.reader.close)
        self._make_supervisors(self.core, self.reader)

    def _make_supervisors(self, core: Core, reader: store.Reader) -> None:
        """Those who look after a part of the run each."""
        assert self._devices is not None and self._workers is not None
        plan, path, events = self.plan, self.name.path, self.events
        observes, tell = self.options.observe, events.tell
        self._power = Power(plan, core, [self._devices, self._workers], tell, observes=observes)
        self._arming = Arming(
            plan,
            core,
            reader,
            devices=self._devices,
            workers=self._workers,
            events=events,
            say=self.say,
            observes=observes,
        )
        self._guard = GuardSupervisor(
            plan,
            self.options,
            core,
            devices=self._devices,
            workers=self._workers,
            events=events,
            path=path,
            emulator=self._emulator,
        )
        self._undo.callback(self._guard.close_pages)
        self._host_counts = HostCounts(core, reader)
        self._attribution = Attribution(plan, core, path, self._peers)
        self._undo.callback(self._attribution.close)
        self._notices = Notices(plan, core, reader, events, path=path, mailbox=self.mailbox)
        self._undo.callback(self._notices.close)

    def _peers(self) -> dict[str, int]:
        assert self._workers is not None
        return peers_of(self._workers.links, self._emulator, self._policy)

    @property
    def guests(self) -> list[WorkerLink]:
        """The workers that are threads of the caller's own process."""
        assert self._workers is not None
        return [link for link in self._workers.links if link.is_guest]

    @property
    def client_fds(self) -> list[int]:
        """The parts of the store that the caller's own process gets.

        First the core's segment. Per guest its ring, eventfd and bell, and the line to hand its
        device on to the guard, if that is to have it. Mailbox and bell, if the caller runs the
        policy. Lease page and page of wishes, if it decides about leases.
        """
        assert self.core is not None and self._workers is not None
        fds = [self.core.segment.fd]
        for link in self._workers.links:
            if link.is_guest:
                fds += [link.fds.ring, link.fds.wake, link.fds.bell]
                if link.guests_hand is not None:
                    fds.append(link.guests_hand.fileno())
        if self.options.client_policy and self.mailbox is not None:
            fds += [self.mailbox.fd, self._bell.fd]
        if self._lease_page is not None:
            fds += [self._lease_page.fd, self._page.fd]
        return fds

    def _close_segments(self) -> None:
        if self._workers is not None:
            self._workers.close()
        for segment in self._segments:
            segment.close()

    def _make_mailbox(self) -> None:
        assert self.core is not None
        is_ours = self.schedule.policy is not None and not self.options.observe
        if is_ours or self.options.client_policy:
            self.mailbox, self._bell = self.core.mailbox()
            self._segments += [self.mailbox, self._bell]

    def _start_policy(self) -> None:
        assert self.mailbox is not None
        self._policy = PolicyChild(self.schedule, self.events)
        self._policy.start(self._children, self.name.path, [self.mailbox.fd, self._bell.fd])

    def listen(self) -> None:
        """Let keys count from now on, and no key that was pressed before."""
        assert self._stops is not None
        if self._keys_fd >= 0:
            discard_typed(self._keys_fd)
            self._stops.listen(self._keys_fd)

    def start(self) -> None:
        """Start the processes, enable the devices, start the cycle."""
        assert self.core is not None and self._devices is not None and self._workers is not None
        assert self._lines is not None and self._guard is not None
        self._clients.start(self.name.path, self._page.fd)
        self._recorder.start(self._children, self.name.path)
        if self.mailbox is not None and not self.options.client_policy:
            self._start_policy()
        # a run that is to end already switches nothing on
        passive = self.options.observe or self._stop is not None
        self._workers.start(self.core, passive)
        if not passive:
            self._guard.start()
        self._devices.start(self.core, passive)  # last: a watchdog does not wait for workers
        self._lines.hand_over(self.core)
        self.core.beat()
        if not passive:
            self.core.arm()
        self.core.start()
        if self._world is not None and self.options.view:
            self._world.show(self._tell)  # last: a window takes its time

    # ---- while it runs -------------------------------------------------------------------

    def tend(self, also: list[int] | None = None) -> list[int]:
        """Wait a moment or for something to happen, and see to it. Which of `also` are readable."""
        assert self.core is not None and self.reader is not None and self._stops is not None
        assert self._arming is not None and self._workers is not None and self._guard is not None
        assert self._host_counts is not None and self._notices is not None
        assert self._attribution is not None
        self.core.beat()
        fds = [*self._children.pidfds, self._stops.fd]
        fds += [*self._workers.pidfds, *self._guard.pidfds]
        ready, _, _ = select.select([*fds, *(also or [])], [], [], _TICK_S)
        if not self._guard.tend():
            self.stop("request")
        self._arming.tend()
        if not self.over:
            self._workers.tend(self.core, self.reader)
        self._host_counts.count()
        self._attribution.look(self.reader.status())
        self._clients.tend()
        if self._policy is not None:
            self._policy.listen()
        self._notices.latch()
        self._notices.policy()
        self._switch_off()
        for child, how in self._children.ended():
            self._note_end(child, how)
        if time.monotonic() - self._world_end_s > _WORLD_GONE_S:
            self.stop("world")
        return [fd for fd in ready if fd in (also or [])]

    def _note_end(self, child: Process, how: str) -> None:
        self._tell(f"{child.name} ended: {how}")
        if self._policy is not None and child is self._policy.process:
            self._policy.ended(how)
            assert self.core is not None
            self.core.policy_gone(died=True)
        elif self._clients.ends_control(child):
            assert self.core is not None
            self._tell("no client can stop the robot any more; arm to go on without")
            self.core.latch(REASONS.index("gateway"))
        elif self._world is not None and child is self._world.process:
            self._world_end_s = time.monotonic()

    def _switch_off(self) -> None:
        """After an emergency stop, once all is at rest, or rest cannot be known: what `on_estop`
        says."""
        assert self._power is not None and self._notices is not None and self._arming is not None
        is_over = self._arming.state in ("faulted", "uncontrolled")
        self._power.follow(REASONS[self._notices.latched] == "estop" and is_over)

    def estop(self) -> None:
        """Emergency stop, in the next act. Callable from a signal handler."""
        if self.core is not None:
            self.core.estop()

    @property
    def over(self) -> bool:
        """True if the cycle has ended."""
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
        self.episodes.take(keys)
        self._recorder.take(keys)
        last_stop = max(keys.rfind(key) for key in _STOP_KEYS)
        return estops if keys.rfind("a") > last_stop else None

    def arm(self, estops: int | None = None) -> None:
        """`Arming.arm`."""
        assert self._arming is not None and self._notices is not None
        if self._arming.arm(estops):
            self._notices.armed()

    def try_to_arm(self, estops: int) -> None:
        """Likewise; why not is said."""
        try:
            self.arm(estops)
        except InphaseError as error:
            self.say(str(error))

    # ---- end -----------------------------------------------------------------------------

    def finish(self) -> dict[str, Any]:
        """After the cycle has ended: switch off what is to be off, and sum up."""
        assert self.core is not None and self.reader is not None and self._power is not None
        assert self._host_counts and self._notices is not None and self._attribution is not None
        self._host_counts.count()
        self._attribution.end()
        self._notices.latch()
        self._power.end()
        if REASONS[self._notices.latched] == "device" and self._devices is not None:
            self._devices.tell_faults()
        self._notices.end(simulated=self.options.simulate)
        how = self._policy.end if self._policy is not None else None
        result = summary.make(self.plan, self.reader, how, self.mailbox)
        self._power.tell_rests(result["actuators"])
        result |= {"late": self._attribution.sum_up()} | self._recorder.finish()
        shortfalls = summary.shortfalls(result)
        for text in shortfalls:
            self._tell(text)
        found = verdict.of(self.plan, result, shortfalls)
        return {**result, "events": self.events.kept, "verdict": found}

    def close(self) -> None:
        """End everything that was started, in bounded time; always callable."""
        if self.core is not None and not self.over:
            self.stop("request")
            stop_ns = park_times.longest_stop_ns(self.schedule, self.options.speed)
            self.core.ended(_JOIN_NS + stop_ns)
        if self._power is not None:
            self._power.end()
        if self._guard is not None:
            self._guard.close()
        self._children.ask_to_end()
        if self._workers is not None:
            self._workers.ask_to_end()
        self._children.stop()
        if self._policy is not None:
            self._policy.close()
            self._policy = None
        self._undo.close()


def run(
    described: Schedule,
    options: RunOptions,
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
    runtime = Runtime(described, options, say, keys_fd=keys_fd)
    with signals_stop(runtime.stop):
        try:
            runtime.prepare()
            with watching(runtime):
                runtime.listen()  # before anything can move, and once the keys are on the screen
                runtime.start()
                while not runtime.over:
                    runtime.tend()
                    if (estops := runtime.asks_to_arm()) is not None:
                        runtime.try_to_arm(estops)
            return runtime.finish()
        finally:
            runtime.close()
