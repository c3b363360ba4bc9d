"""A robot from Python, notebooks included: `inphase run` as a context manager.

    with inphase.Runner("schedules/demo.toml") as robot:
        for frame in robot:
            print(frame.cycle, frame["joints"].value["position"])

On the wall clock the robot runs in a runtime process of its own. Nothing real-time, no signal
handler and no locked memory enters the caller's process. The robot ramps down when the block or the
process ends. With `lockstep=True` it runs on virtual time in the caller's thread.
"""

import contextlib
import gc
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inphase import errors
from inphase import schedule as schedules
from inphase.episodes import lockstep
from inphase.errors import InphaseError, RuntimeFault
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.plan import plan as planning
from inphase.policy import command_buffer, policy_process
from inphase.policy import turn as policies
from inphase.policy.turn import PolicyCall
from inphase.runtime.workers.worker import WorkerFds
from inphase.runtime.workers.worker_thread import WorkerThread
from inphase.schedule import Schedule

_ANSWER_S = 30.0
_STOP_S = 5.0
_FDS_MAX = 250  # three per device, one more per actuator, and three


class Runner:
    """One run of a robot; start and end it with `with`.

    schedule: a path, or one that was loaded. policy: a callable that runs in this process instead
    of the schedule's policy (it then shares this process's GIL). cycles: end after so many (0: at
    the end of the block). observe: never write to an actuator. lockstep: on virtual time, with
    seed, that of the simulated devices. simulate: in real time, in the schedule's simulated world.
    posts: the caller answers frames itself, with `post`, instead of any policy.

    Raises, on entering, ScheduleError, DeviceError, RealtimeError, StoreError, RuntimeFault,
    WorldError.
    Thread: one at a time.
    """

    def __init__(
        self,
        schedule: Path | str | Schedule,
        *,
        policy: PolicyCall | None = None,
        cycles: int = 0,
        observe: bool = False,
        lockstep: bool = False,
        simulate: bool = False,
        seed: int = 0,
        posts: bool = False,
    ) -> None:
        assert not (lockstep and simulate), (
            "give lockstep (virtual time) or simulate (real time), not both"
        )
        assert not (posts and policy is not None), (
            "posts is for a caller that answers frames; a policy answers them itself"
        )
        loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
        self.schedule = loaded
        self.summary: dict[str, Any] | None = None
        """as `inphase run --json` prints it, after the run has ended"""
        wishes = _Wishes(policy, cycles, observe, seed, simulate, posts)
        self._robot: _LockStepRobot | _RuntimeRobot
        self._robot = (_LockStepRobot if lockstep else _RuntimeRobot)(loaded, wishes)

    def __enter__(self) -> Self:
        self._robot.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.summary = self._robot.end()

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the run ends; in lock step each one is a cycle that is run."""
        return self._robot.frames()

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        """The next frame, or the newest one. Raises TimeoutError, and store.Lost at the end."""
        return self._robot.next(timeout_s, newest)

    def post(self, frame: Frame, command: Any) -> str | None:
        """Answer a frame with a command, as a policy returns it: for exactly this frame's cycle.

        Why it is none, one of REASONS; that it came too late is said by later frames.
        """
        return self._robot.post(frame, command)

    def refuse(self, frame: Frame, reason: str) -> None:
        """No command to a frame, and why, one of REASONS."""
        self._robot.refuse(frame, reason)

    @property
    def follower(self) -> StoreFollower:
        """The follower of the frames: its layout, and the counts of its store."""
        return self._robot.follower

    def arm(self) -> None:
        """Let motion start again from where the robot is. Raises DeviceError, RuntimeFault."""
        self._robot.arm()

    def estop(self) -> None:
        """Emergency stop, before anything else is written: motion is latched until `arm`."""
        self._robot.estop()

    @property
    def messages(self) -> list[str]:
        """The runtime's messages so far: devices that went and came, processes that ended."""
        return self._robot.messages()

    @property
    def store_path(self) -> str:
        """The store's segment, for other followers on this host."""
        return self._robot.store_path

    @property
    def pid(self) -> int | None:
        """The runtime's process; None in lock step, which has none."""
        return self._robot.pid


@dataclass(frozen=True)
class _Wishes:
    """The options of a run; see Runner."""

    policy: PolicyCall | None
    cycles: int
    observe: bool
    seed: int
    simulate: bool
    posts: bool


class _LockStepRobot:
    """The run on virtual time."""

    pid = None

    def __init__(self, schedule: Schedule, wishes: _Wishes) -> None:
        self._schedule = schedule
        self._wishes = wishes

    def start(self) -> None:
        wishes = self._wishes
        self._lockstep = lockstep.LockStep(
            self._schedule, call=wishes.policy, observe=wishes.observe, seed=wishes.seed
        )
        self.store_path = self._lockstep.core.segment.path
        self.follower = self._lockstep.follower

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        cycles = self._wishes.cycles
        if cycles and self._lockstep.cycles >= cycles:
            raise store.Lost(f"the {cycles} cycles asked for are done")
        return self._lockstep.next() if self._wishes.posts else self._lockstep.step()

    def post(self, frame: Frame, command: Any) -> str | None:
        return self._lockstep.answer(command)

    def refuse(self, frame: Frame, reason: str) -> None:
        self._lockstep.refuse(reason)

    def frames(self) -> Iterator[Frame]:
        with contextlib.suppress(store.Lost):
            while True:
                yield self.next()

    def arm(self) -> None:
        self._lockstep.core.arm()

    def estop(self) -> None:
        self._lockstep.core.estop()

    def messages(self) -> list[str]:
        return []

    def end(self) -> dict[str, Any]:
        with self._lockstep as robot:
            return lockstep.sum_up(robot)


class _RuntimeRobot:
    """The run in a runtime process of its own; JSON lines go to and fro, see runtime.py."""

    def __init__(self, schedule: Schedule, wishes: _Wishes) -> None:
        self._schedule = schedule
        self._policy = wishes.policy
        self._observe = wishes.observe
        self._simulate = wishes.simulate
        self._posts = wishes.posts
        self._every = policies.every(schedule)
        self._is_client = wishes.posts or wishes.policy is not None
        self._options = ["--cycles", str(wishes.cycles)]
        self._options += ["--observe"] if wishes.observe else []
        self._options += ["--simulate"] if wishes.simulate else []
        self._options += ["--wait-policy"] if self._is_client else []
        self._messages: list[str] = []
        self._rest = b""
        self._summary: dict[str, Any] | None = None
        self._client: threading.Thread | None = None
        self._fds: list[int] = []
        self._guests: list[WorkerThread] = []

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        self._stops, their_stops = socket.socketpair()
        self._stops.setblocking(False)
        with theirs, their_stops:
            command = [
                sys.executable,
                "-m",
                "inphase.runtime.runner_process",
                str(self._schedule.path),
            ]
            fds = [theirs.fileno(), their_stops.fileno()]
            self._child = subprocess.Popen(
                [*command, *map(str, fds), *self._options],
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,  # ^C in a terminal or notebook is the caller's
            )
        self.pid = self._child.pid
        self._line = ours
        self._line.settimeout(_ANSWER_S)
        try:
            event = self._wait("store")
            self.store_path = str(event["path"])
            self._start_guests(event["guests"])
            if self._is_client:
                self._start_client()
            if self._is_client or self._guests:
                self._send(do="ready")
            self._wait("running")
            self.follower = StoreFollower(self.store_path)
            if self._posts:
                self._mailbox.wake(self.follower.reader)
        except BaseException:
            self._close_lines()
            self._reap()
            self._end_guests()
            raise

    def _start_guests(self, devices: list[str]) -> None:
        """The drivers of home `thread`, in threads of this process. Raises DeviceError."""
        plan = planning.make(self._schedule) if devices else None
        fds = iter(self._fds[1:])
        for name in devices:
            assert plan is not None
            ring, wake, bell = next(fds), next(fds), next(fds)
            guarded = {a.schedule.device for a in plan.actuators if a.stop is not None}
            is_guarded = name in guarded and not self._simulate
            hand = socket.socket(fileno=os.dup(next(fds))) if is_guarded else None
            guest = WorkerThread(plan, name, WorkerFds(ring, self._fds[0], wake, bell), hand)
            self._guests.append(guest)
            guest.start()
            if self._moves(name) and not self._observe:
                guest.ask("enable")

    def _moves(self, device: str) -> bool:
        return any(a.device == device for a in self._schedule.actuator.values())

    def _end_guests(self) -> None:
        off = {a.device for a in self._schedule.actuator.values() if a.on_stop == "off"}
        for guest in self._guests:
            if guest.device in off and not self._observe:
                try:
                    guest.ask("disable")
                except errors.DeviceError as error:
                    text = f"device {guest.device} may still be powered, switch it off by hand"
                    print(f"{text}: {error}", file=sys.stderr)
            guest.close()
        for fd in self._fds:
            os.close(fd)
        self._guests, self._fds = [], []

    def _start_client(self) -> None:
        """The policy's mailbox, and a policy in a thread of this process."""
        follower = StoreFollower(self.store_path)
        self._buffer = command_buffer.make_buffer(self._schedule, follower.layout.actuators)
        bell, mailbox = self._fds.pop(), self._fds.pop()
        self._mailbox = store.Mailbox(mailbox, bell)
        self._valid_ns = policies.valid_ns(self._schedule)
        if self._policy is None:
            follower.close()
            return
        self._mailbox.wake(follower.reader)
        turn = policies.Turn(self._policy, self._buffer, self._schedule)
        self._client = threading.Thread(
            target=policy_process.follow,
            args=(follower, self._mailbox, turn, self._every, self._valid_ns),
            name="inphase policy",
            daemon=True,
        )
        gc.collect()
        self._client.start()

    def post(self, frame: Frame, command: Any) -> str | None:
        buffer = self._buffer
        trouble = buffer.fill(command)
        if trouble is not None:
            self._mailbox.refuse(frame.cycle, trouble)
            return trouble
        until_ns = frame.due_ns + self._valid_ns
        self._mailbox.post(frame.cycle, until_ns, buffer.pointer, buffer.count)
        return None

    def refuse(self, frame: Frame, reason: str) -> None:
        self._mailbox.refuse(frame.cycle, reason)

    def _send(self, **request: object) -> None:
        self._line.sendall(json.dumps(request).encode() + b"\n")

    def _wait(self, wanted: str) -> dict[str, Any]:
        """Read events until one of that kind. Raises what the runtime reports."""
        while True:
            while b"\n" not in self._rest:
                data, fds, _, _ = socket.recv_fds(self._line, 65536, _FDS_MAX)
                self._fds += fds
                if not data:
                    code = self._child.wait()
                    raise RuntimeFault(f"the runtime ended, exit code {code}; see above for why")
                self._rest += data
            line, self._rest = self._rest.split(b"\n", 1)
            event = json.loads(line)
            kind = event["event"]
            if kind == "message":
                self._messages.append(event["text"])
            elif kind == "error":
                raise _error(event["text"], event["exit_code"])
            elif kind == "summary":
                self._summary = event["summary"]
            if kind == wanted:
                return dict(event)

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        if self._posts and newest:
            return self.follower.next(timeout_s, every=self._every)
        while True:
            frame = self.follower.next(timeout_s, newest)
            if not self._posts or frame.cycle % self._every == 0:
                return frame

    def frames(self) -> Iterator[Frame]:
        with contextlib.suppress(store.Lost):
            while True:
                yield self.next()

    def arm(self) -> None:
        for guest in self._guests:
            if self._moves(guest.device) and not self._observe:
                guest.ask("enable")
        # an emergency stop from now on wins, also one that comes while this waits
        self._send(do="arm", estops=self.follower.reader.status()["estops"])
        trouble = self._wait("armed")["error"]
        if trouble:
            raise RuntimeFault(trouble)

    def estop(self) -> None:
        self._say_stop(b"e")

    def _say_stop(self, word: bytes) -> None:
        """Have the runtime's core stop; never waits, and nothing there holds it up."""
        with contextlib.suppress(OSError):  # full: as much was said already; gone: it has stopped
            self._stops.send(word)

    def _close_lines(self) -> None:
        self._line.close()
        self._stops.close()

    def messages(self) -> list[str]:
        self._line.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._wait("message")
        self._line.settimeout(_ANSWER_S)
        return list(self._messages)

    def end(self) -> dict[str, Any] | None:
        try:
            if self._summary is None:
                self._say_stop(b"s")
                self._wait("summary")
        finally:
            self._close_lines()
            self._reap()
            self._end_guests()
            self.follower.close()
            if self._client is not None:
                self._client.join(_STOP_S)
            if self._is_client and (self._client is None or not self._client.is_alive()):
                self._mailbox.close()
        return self._summary

    def _reap(self) -> None:
        try:
            self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            os.kill(self._child.pid, 9)
            self._child.wait()


def _error(text: str, code: int) -> InphaseError:
    """The exception that the runtime raised, by its exit code."""
    for kind in (
        errors.ScheduleError,
        errors.DeviceError,
        errors.RealtimeError,
        errors.StoreError,
        errors.WorldError,
    ):
        if kind.exit_code == code:
            return kind(text)
    return RuntimeFault(text)
