"""Publishing a recording again, at the endpoints that its robot had."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from inphase.errors import StoreError
from inphase.host import store_names
from inphase.host.process import Process
from inphase.recording.recording import Recording
from inphase.replay.player import Player
from inphase.timing.recorded_schedule import schedule_of

_SLICE_S = 0.1


class Publisher:
    """Plays a recording under its robot's name and endpoints; a context manager.

    Raises StoreError: a robot of that name runs, or an endpoint is taken.
    """

    def __init__(self, recording: Recording) -> None:
        robot = recording.layout.robot
        for path in store_names.named(robot):
            raise StoreError(
                f"a robot {robot!r} runs on this host, and a replay has its name and its "
                f"endpoints; stop it first ({store_names.who_runs(path)})"
            )
        self._recording = recording
        self._undo = contextlib.ExitStack()
        try:
            self._player = self._undo.enter_context(Player(recording))
            name = store_names.Name(robot, self._player.epoch, [self._player.store.fd])
            self._undo.callback(name.close)
            self._gateway = self._start_gateway(name.path)
        except BaseException:
            self._undo.close()
            raise

    def _start_gateway(self, store_path: str) -> Process | None:
        """None: the robot had none."""
        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="inphase-")))
        described = schedule_of(self._recording, folder)
        self.gateway = described.gateway
        if described.gateway is None:
            return None
        arguments = [str(described.path), store_path]
        gateway = Process("gateway", "inphase.runtime.gateway", arguments)
        self._undo.callback(gateway.stop)
        gateway.wait_ready()
        return gateway

    def run(
        self, start: int = 0, speed: float = 1.0, watch: Callable[[int], None] = lambda place: None
    ) -> int:
        """Publish all frames from that place of the file on, so many times as fast as they came;
        the number of those that were published. watch: is told each place."""
        began_s, first_ns = time.monotonic(), None
        for place in range(start, len(self._recording)):
            frame = self._recording[place]
            first_ns = frame.latched_ns if first_ns is None else first_ns
            due_s = began_s + (frame.latched_ns - first_ns) * 1e-9 / speed
            while (left_s := due_s - time.monotonic()) > 0:
                time.sleep(min(left_s, _SLICE_S))
            self._player.play(frame)
            watch(place)
        return len(self._recording) - start

    def close(self) -> None:
        """End it: readers see that the robot is gone."""
        self._undo.close()

    def __enter__(self) -> "Publisher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
