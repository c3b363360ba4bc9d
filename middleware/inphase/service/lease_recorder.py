"""The recording of each lease of a robot: begun before it can be driven, ended after it."""

import contextlib
import os
from pathlib import Path

from inphase.host.process import Process
from inphase.recording import recorder_process
from inphase.recording.recorder_process import RecorderOptions
from inphase.service.served_robot import ServedRobot


class LeaseRecorder:
    """Makes one recording after the other. Nothing here waits. Thread: the service's.

    folder: of the recordings; None: none are made.
    """

    def __init__(self, robot: ServedRobot, folder: Path | None) -> None:
        self._robot = robot
        self._folder = folder
        self._process: Process | None = None
        self._is_ready = True
        self._scores_fd = -1
        """a pipe to the recorder, that never waits"""
        self._ending: list[Process] = []
        self.path: Path | None = None
        """of the present lease's"""

    def begin(self, number: int) -> None:
        """Start that of a lease. Raises RecordingError where it cannot be made."""
        self._is_ready, self.path = True, None
        if self._folder is None:
            return
        path = self._folder / f"{self._robot.name}-{number}.mcap"
        recorder_process.refuse(path)
        theirs, self._scores_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        options = RecorderOptions(from_now=True, scores_fd=theirs)
        line = recorder_process.arguments(self._robot.path, path, self._robot.schedule, options)
        self._process = Process("recorder", recorder_process.MODULE, line, [theirs])
        os.close(theirs)
        self._is_ready, self.path = False, path

    def keep_score(self, episode: int, score: float) -> None:
        """The recording is to have the score of that episode; it is read at its end."""
        if self._scores_fd >= 0:
            with contextlib.suppress(OSError):  # the recorder has ended
                os.write(self._scores_fd, recorder_process.score_line(episode, score))

    def is_ready(self) -> bool:
        """True once it takes frames, or has failed, or there is none: then the robot may move."""
        if not self._is_ready and self._process is not None:
            self._is_ready = self._process.ended() is not None or self._process.is_ready()
        return self._is_ready

    @property
    def has_failed(self) -> bool:
        """True where it ended by itself."""
        return self._process is not None and self._process.ended() is not None

    def end(self) -> None:
        """Have it write what the store holds, and its file's end."""
        if self._process is not None:
            self._process.ask_to_end()
            os.close(self._scores_fd)
            self._scores_fd = -1
            self._ending.append(self._process)
            self._process = None

    def reap(self) -> None:
        """Take away those that have ended."""
        for process in [*self._ending]:
            if process.ended() is not None:
                process.stop()
                self._ending.remove(process)

    def close(self) -> None:
        """End all; what is written is whole."""
        self.end()
        for process in self._ending:
            recorder_process.wait(process)
        self._ending.clear()
