"""The runtime's side of a simulated world: its process, and the devices with stand-ins.

The emulator's module hosts the world, where the schedule names an emulator. It answers for the
devices whose protocols it knows. Without an emulator, `realtime_world` hosts the world. Every other
device has a stand-in in a worker, with a channel of its own to the world's process.
"""

import contextlib
import json
import os
import socket
from collections.abc import Callable

from inphase.errors import WorldError
from inphase.host.process import Process
from inphase.plan.plan import Plan
from inphase.schedule import Schedule
from inphase.world import stand_in_channel, view
from inphase.world.stand_in import make_plan

NAME = "world"
_HOST = "inphase.world.realtime_world"
_VIEW = "inphase.world.view"
_ANSWERS_MAX = 65_536
_START_S = 60.0  # a large model takes its time to load


class WorldProcess:
    """A world in a process of its own, from its start on. Its maker closes it.

    Thread: the supervisor's. Raises WorldError, RuntimeFault.
    """

    def __init__(self, schedule: Schedule) -> None:
        emulator = schedule.emulator
        self._schedule = schedule
        self._view: Process | None = None
        self._channel, theirs = stand_in_channel.pair()
        path = str(schedule.path)
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            fd = theirs.fileno()
            folder = schedule.path.resolve().parent
            if emulator is None:
                self.process = Process(NAME, _HOST, [path, str(fd)], [fd], folder)
            else:
                arguments = [path, "--world", str(fd)]
                self.process = Process(NAME, emulator.module, arguments, [fd], folder)
        try:
            self.process.wait_ready(_START_S)
            self.stand_ins = self._ask_who_answers()
        except BaseException:
            self.close()
            raise

    def _ask_who_answers(self) -> list[str]:
        """The devices that the world's process does not answer for."""
        try:
            said = self._channel.recv(_ANSWERS_MAX, socket.MSG_DONTWAIT)
        except BlockingIOError as error:
            emulator = self._schedule.emulator
            module = emulator.module if emulator is not None else _HOST
            raise self._schedule.error(
                "emulator.module",
                f"{module} hosts no world: it did not take --world; remove [emulator] for this, "
                f"and stand-ins answer for its devices",
            ) from error
        if not said:
            raise WorldError("the simulated world's process ended at its start; see above for why")
        answered = json.loads(said)["answers"]
        return [name for name in self._schedule.device if name not in answered]

    def plan(self) -> Plan:
        """The plan of the run, with stand-ins in place of drivers. Raises ScheduleError."""
        return make_plan(self._schedule, self.stand_ins)

    def show(self, tell: Callable[[str], object]) -> None:
        """Open a window that shows the world, in a process of its own. Where there is no display,
        that is told."""
        if not view.has_display():
            tell(view.NO_DISPLAY)
            return
        with self.connect(None) as theirs:
            os.set_inheritable(theirs.fileno(), True)
            fd = theirs.fileno()
            path = str(self._schedule.path)
            folder = self._schedule.path.resolve().parent
            self._view = Process("view", _VIEW, [path, str(fd)], [fd], folder)

    def connect(self, device: str | None) -> socket.socket:
        """The other end of a new channel to the world's process: of the stand-in for a device, or
        of a view, which moves nothing."""
        ours, theirs = stand_in_channel.pair()
        message = json.dumps({"device": device}).encode()
        with theirs, contextlib.suppress(OSError):  # gone: the stand-in will find nobody there
            socket.send_fds(self._channel, [message], [theirs.fileno()])
        return ours

    def close(self) -> None:
        """End the process, and the window."""
        if self._view is not None:
            self._view.stop()
        self._channel.close()
        self.process.stop()
