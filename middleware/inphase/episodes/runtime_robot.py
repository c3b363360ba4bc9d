"""A robot in a runtime process of its own; JSON lines go to and fro, see `runner_process.py`."""

import contextlib
import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase import errors
from inphase.episodes.robot import Robot, RobotOptions
from inphase.errors import RuntimeFault, WorldError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.plan import plan as planning
from inphase.policy import command_buffer, policy_process
from inphase.policy import turn as policies
from inphase.policy.remarks import Remarks
from inphase.runtime.events import Events
from inphase.runtime.runner_line import ESTOP, RunnerChild
from inphase.runtime.workers.worker import WorkerFds
from inphase.runtime.workers.worker_thread import WorkerThread
from inphase.schedule import Schedule

_STOP_S = 5.0
_LOG = logging.getLogger("inphase")


class RuntimeRobot(Robot):
    """The run in a runtime process of its own."""

    def __init__(self, schedule: Schedule, options: RobotOptions) -> None:
        self._schedule = schedule
        self._policy = options.policy
        self._observe = options.observe
        self._simulate = options.simulate
        self._posts = options.posts
        self._every = policies.every(schedule)
        self._is_client = options.posts or options.policy is not None
        self._frame: Frame | None = None
        self._arguments = ["--cycles", str(options.cycles)]
        self._arguments += ["--observe"] if options.observe else []
        self._arguments += ["--simulate"] if options.simulate else []
        self._arguments += ["--wait-policy"] if self._is_client else []
        self._events = Events(_LOG.warning)
        self._client: threading.Thread | None = None
        self._fds: list[int] = []
        self._guests: list[WorkerThread] = []
        self._goals: dict[str, list[float]] = {}  # of the guests that hold
        self.draws: dict[str, float | list[float]] = {}

    def start(self) -> None:
        """Start the runtime process, and what runs in this one."""
        path = self._schedule.path
        self._child = RunnerChild(path, self._arguments, self._events.tell)
        self.pid = self._child.pid
        try:
            event = self._child.wait("store")
            self._fds = self._child.line.fds
            self.store_path = str(event["path"])
            self._start_guests(event["guests"])
            if self._is_client:
                self._start_client()
            if self._is_client or self._guests:
                self._child.line.send(do="ready", goals=self._goals)
            self._child.wait("running")
            self.follower = StoreFollower(self.store_path)
            if self._posts:
                self._mailbox.wake(self.follower.reader)
        except BaseException:
            self._child.close()
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
                self._goals[name] = list(guest.ask("enable"))

    def _moves(self, device: str) -> bool:
        return any(a.device == device for a in self._schedule.actuator.values())

    def _goes_off(self, device: str) -> bool:
        """True if the end of a run takes its power away: a park has reached its end before."""
        rested = (self._child.line.summary or {}).get("actuators", {})
        for name, one in self._schedule.actuator.items():
            if one.device == device and one.on_stop != "hold":
                park = rested.get(name, {}).get("rest", {}).get("park", "waits")
                return one.park is None or one.on_stop == "brake" or park == "done"
        return False

    def _end_guests(self) -> None:
        for guest in self._guests:
            if self._goes_off(guest.device) and not self._observe:
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
        call = policies.begin(self._policy, follower.layout)
        remarks = Remarks(self._events.tell, self._schedule)
        turn = policies.Turn(call, self._buffer, self._schedule, remarks)
        self._client = threading.Thread(
            target=policy_process.follow,
            args=(follower, self._mailbox, turn, self._every, self._valid_ns),
            name="inphase policy",
            daemon=True,
        )
        gc.collect()
        self._client.start()

    def answer(self, command: Any, frame: Frame | None = None) -> str | None:
        """It counts when it is there before its frame's act."""
        frame = frame or self._frame
        assert frame is not None
        buffer = self._buffer
        trouble = buffer.fill(command)
        if trouble is not None:
            self._mailbox.refuse(frame.cycle, trouble)
            return trouble
        until_ns = frame.due_ns + self._valid_ns
        self._mailbox.post(frame.cycle, until_ns, buffer.pointer, buffer.count)
        return None

    def refuse(self, reason: str, frame: Frame | None = None) -> None:
        """Likewise."""
        frame = frame or self._frame
        assert frame is not None
        self._mailbox.refuse(frame.cycle, reason)

    def next(self, timeout_s: float | None = None, newest: bool = False) -> Frame:
        """The next one that the policy takes, where the caller answers."""
        if self._posts and newest:
            self._frame = self.follower.next(timeout_s, every=self._every)
            return self._frame
        while True:
            self._frame = self.follower.next(timeout_s, newest)
            if not self._posts or self._frame.cycle % self._every == 0:
                return self._frame

    def turn(self, command: Any) -> Frame | str:
        """The frame after it is the newest one then."""
        return self.answer(command) or self.next(newest=True)

    def frames(self) -> Iterator[Frame]:
        """Those until the run ends."""
        with contextlib.suppress(store.Lost):
            while True:
                yield self.next()

    def arm(self) -> None:
        """Also the drivers of this process. Raises DeviceError, RuntimeFault."""
        for guest in self._guests:
            if self._moves(guest.device) and not self._observe:
                self._goals[guest.device] = list(guest.ask("enable"))
        # an emergency stop from now on wins, also one that comes while this waits
        estops = self.follower.reader.status()["estops"]
        self._child.line.send(do="arm", estops=estops, goals=self._goals)
        trouble = self._child.wait("armed")["error"]
        if trouble:
            raise RuntimeFault(trouble)

    def episode(self, outcome: str) -> int:
        """The runtime marks it, and its frames tell it."""
        self._child.line.send(do="episode", outcome=outcome)
        event = self._child.wait("episode")
        if event["error"]:
            raise ValueError(event["error"])
        return int(event["number"])

    def estop(self) -> None:
        """Never waits, and nothing in the runtime holds it up."""
        self._child.say_stop(ESTOP)

    def picture(self, camera: str | None, height: int, width: int) -> NDArray[np.uint8]:
        """Only on virtual time."""
        raise WorldError(f"{self._schedule.path}: no picture: it is for lockstep=True")

    def messages(self) -> list[str]:
        """Those that have come so far."""
        return self._events.kept

    def end(self) -> dict[str, Any] | None:
        """Ramp down, end the process; the summary."""
        try:
            return self._child.finish()
        finally:
            self._child.close()
            self._end_guests()
            self.follower.close()
            if self._client is not None:
                self._client.join(_STOP_S)
            if self._is_client and (self._client is None or not self._client.is_alive()):
                self._mailbox.close()
