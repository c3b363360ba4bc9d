"""A robot from Python, notebooks included: what `inphase run` does, as a context manager.

    with inphase.Runner("schedules/demo.toml") as robot:
        for frame in robot:
            print(frame.cycle, frame["joints"].value["position"])

On the wall clock the robot runs in a runtime process of its own: nothing real-time, no signal
handler and no locked memory enters the caller's process, and the robot ramps down when the block or
the process ends. With `lockstep=True` it runs on virtual time in the caller's thread.
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
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from inphase import errors, lockstep, store
from inphase import plan as planning
from inphase import policy as policies
from inphase import schedule as schedules
from inphase.errors import InphaseError, RuntimeFault
from inphase.follow import StoreFollower
from inphase.frame import Frame
from inphase.policy import PolicyCall
from inphase.schedule import Schedule
from inphase.worker import WorkerThread

_ANSWER_S = 30.0
_STOP_S = 5.0
_FDS_MAX = 128  # two per device


class Runner:
    """One run of a robot; start and end it with `with`.

    schedule: a path, or one that was loaded. policy: a callable that runs in this process instead
    of the schedule's policy (it then shares this process's GIL). cycles: end after so many (0: at
    the end of the block). observe: never write to an actuator. lockstep: on virtual time, with
    seed, that of the simulated devices. simulate: in real time, in the schedule's simulated world.

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
    ) -> None:
        assert not (lockstep and simulate), "lockstep is virtual time, simulate is real time"
        loaded = schedule if isinstance(schedule, Schedule) else schedules.load(schedule)
        self.schedule = loaded
        self.summary: dict[str, Any] | None = None
        """as `inphase run --json` prints it, after the run has ended"""
        self._robot: _LockStepRobot | _RuntimeRobot
        if lockstep:
            self._robot = _LockStepRobot(loaded, policy, cycles, observe, seed)
        else:
            self._robot = _RuntimeRobot(loaded, policy, cycles, observe, simulate)

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

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame. Raises TimeoutError, and store.Lost when the run has ended."""
        return self._robot.next(timeout_s)

    def arm(self) -> None:
        """Let motion start again from where the robot is. Raises DeviceError, RuntimeFault."""
        self._robot.arm()

    @property
    def messages(self) -> list[str]:
        """What the runtime said so far: devices that went and came, processes that ended."""
        return self._robot.messages()

    @property
    def store_path(self) -> str:
        """The store's segment, for other followers on this host."""
        return self._robot.store_path

    @property
    def pid(self) -> int | None:
        """The runtime's process; None in lock step, which has none."""
        return self._robot.pid


class _LockStepRobot:
    """The run on virtual time."""

    pid = None

    def __init__(
        self,
        schedule: Schedule,
        policy: PolicyCall | None,
        cycles: int,
        observe: bool,
        seed: int,
    ) -> None:
        self._schedule = schedule
        self._policy = policy
        self._observe = observe
        self._seed = seed
        self._cycles = cycles

    def start(self) -> None:
        self._lockstep = lockstep.LockStep(
            self._schedule, call=self._policy, observe=self._observe, seed=self._seed
        )
        self.store_path = self._lockstep.core.segment.path

    def next(self, timeout_s: float | None = None) -> Frame:
        if self._cycles and self._lockstep.cycles >= self._cycles:
            raise store.Lost(f"the {self._cycles} cycles asked for are done")
        return self._lockstep.step()

    def frames(self) -> Iterator[Frame]:
        with contextlib.suppress(store.Lost):
            while True:
                yield self.next()

    def arm(self) -> None:
        self._lockstep.core.arm()

    def messages(self) -> list[str]:
        return []

    def end(self) -> dict[str, Any]:
        with self._lockstep as robot:
            return lockstep.sum_up(robot)


class _RuntimeRobot:
    """The run in a runtime process of its own; JSON lines go to and fro, see runtime.py."""

    def __init__(
        self,
        schedule: Schedule,
        policy: PolicyCall | None,
        cycles: int,
        observe: bool,
        simulate: bool,
    ) -> None:
        self._schedule = schedule
        self._policy = policy
        self._observe = observe
        self._options = ["--cycles", str(cycles)]
        self._options += ["--observe"] if observe else []
        self._options += ["--simulate"] if simulate else []
        self._options += ["--wait-policy"] if policy is not None else []
        self._messages: list[str] = []
        self._rest = b""
        self._summary: dict[str, Any] | None = None
        self._client: threading.Thread | None = None
        self._fds: list[int] = []
        self._guests: list[WorkerThread] = []

    def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "inphase.runtime", str(self._schedule.path)]
            self._child = subprocess.Popen(
                [*command, str(theirs.fileno()), *self._options],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # ^C in a terminal or notebook is the caller's
            )
        self.pid = self._child.pid
        self._line = ours
        self._line.settimeout(_ANSWER_S)
        try:
            event = self._wait("store")
            self.store_path = str(event["path"])
            self._start_guests(event["guests"])
            mailbox = self._start_client(self._policy) if self._policy is not None else None
            if mailbox is not None or self._guests:
                self._send(do="ready", mailbox=mailbox)
            self._wait("running")
            self._follower = StoreFollower(self.store_path)
        except BaseException:
            self._line.close()
            self._reap()
            self._end_guests()
            raise

    def _start_guests(self, devices: list[str]) -> None:
        """The drivers of home `thread`, in threads of this process. Raises DeviceError."""
        plan = planning.make(self._schedule) if devices else None
        for index, name in enumerate(devices):
            assert plan is not None
            wake_fd, order_fd = self._fds[2 * index : 2 * index + 2]
            guest = WorkerThread(plan, name, self.store_path, wake_fd, order_fd)
            self._guests.append(guest)
            guest.start(enable=not self._observe and self._moves(name))

    def _moves(self, device: str) -> bool:
        return any(a.device == device for a in self._schedule.actuator.values())

    def _end_guests(self) -> None:
        off = {a.device for a in self._schedule.actuator.values() if a.on_stop == "off"}
        for guest in self._guests:
            if guest.device in off and not self._observe:
                with contextlib.suppress(errors.DeviceError):  # gone: nothing to switch off
                    guest.ask("disable")
            guest.close()
        for fd in self._fds:
            os.close(fd)
        self._guests, self._fds = [], []

    def _start_client(self, call: PolicyCall) -> str:
        """The policy, in a thread of this process; the path of its mailbox."""
        follower = StoreFollower(self.store_path)
        buffer = policies.CommandBuffer(follower.layout.actuators)
        path = store.policy_path(self.store_path)
        mailbox = store.Mailbox(path, buffer.channels, follower.layout.epoch)
        turn = policies.Turn(call, buffer, self._schedule)
        arguments = (follower, mailbox, turn, policies.longest_hold_ns(self._schedule))
        self._client = threading.Thread(
            target=policies.follow, args=arguments, name="inphase policy", daemon=True
        )
        self._mailbox = mailbox
        gc.collect()
        self._client.start()
        return path

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

    def next(self, timeout_s: float | None = None) -> Frame:
        return self._follower.next(timeout_s)

    def frames(self) -> Iterator[Frame]:
        return iter(self._follower)

    def arm(self) -> None:
        for guest in self._guests:
            if self._moves(guest.device) and not self._observe:
                guest.ask("enable")
        self._send(do="arm")
        trouble = self._wait("armed")["error"]
        if trouble:
            raise RuntimeFault(trouble)

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
                with contextlib.suppress(OSError):
                    self._send(do="stop")
                self._wait("summary")
        finally:
            self._line.close()
            self._reap()
            self._end_guests()
            self._follower.close()
            if self._client is not None:
                self._client.join(_STOP_S)
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
