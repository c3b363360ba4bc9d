"""Recording a run in lock step, which waits for its recorder: no frame is missed."""

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from inphase.errors import RecordingError
from inphase.frames.store_follower import StoreFollower
from inphase.host.process import Process
from inphase.recording.recorder_process import (
    MODULE,
    RecorderOptions,
    arguments,
    finish,
    refuse,
)
from inphase.schedule import Schedule


def run_recorded(
    follower: StoreFollower,
    run: Callable[[int], int],
    cycles: int,
    path: Path,
    described: Schedule,
    *,
    options: RecorderOptions | None = None,
) -> dict[str, Any]:
    """Run so many cycles, and record all frames of the store that `follower` reads; the outcome.

    run: runs so many more cycles, and returns how many it ran. Raises RecordingError.
    """
    refuse(path)
    batch = _batch(follower)
    done = 0
    options = options or RecorderOptions()
    with LockStepRecorder(follower.reader.path, path, described, batch, options) as recorder:
        while done < cycles and (ran := run(min(batch, cycles - done))):
            done += ran
            recorder.keep_up(done)
        return recorder.finish()


def _batch(follower: StoreFollower) -> int:
    """Cycles in which no ring comes half round."""
    sensors = follower.description["sensors"]
    rings = [sensor["depth"] * sensor["every"] for sensor in sensors]
    return max(1, int(min([follower.reader.frame_ring[3], *rings])) // 4)


class LockStepRecorder:
    """The recorder's process; `finish`, then `close`.

    batch: so many cycles may be run between two calls of `keep_up`.
    """

    def __init__(
        self,
        store_path: str,
        path: Path,
        described: Schedule,
        batch: int,
        options: RecorderOptions,
    ) -> None:
        self._path = path
        self._options = options
        self._batch = batch
        self._taken = 0
        self._taken_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._process = Process(
            "recorder",
            MODULE,
            arguments(store_path, path, described, options, self._taken_fd),
            pass_fds=[self._taken_fd],
        )
        try:
            self._process.wait_ready()
        except BaseException:
            self.close()
            raise

    def keep_up(self, frames: int) -> None:
        """Wait until all but a batch of so many frames are recorded. Raises RecordingError if the
        recorder is gone."""
        while self._taken < frames - self._batch:
            ready, _, _ = select.select([self._taken_fd, self._process.pidfd], [], [])
            if self._taken_fd not in ready:
                raise RecordingError(
                    f"the recorder of {self._path} ended: {self._process.ended()}; what it wrote "
                    f"can be made whole: inphase recover {self._path}"
                )
            self._taken += os.eventfd_read(self._taken_fd)

    def finish(self) -> dict[str, Any]:
        """The outcome, for a summary."""
        return finish(self._process, self._path, self._options)

    def close(self) -> None:
        """End it."""
        self._process.stop()
        if self._taken_fd >= 0:
            os.close(self._taken_fd)
            self._taken_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
