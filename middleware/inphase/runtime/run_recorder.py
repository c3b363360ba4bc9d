"""The recorder of a run on the wall clock."""

import signal
from typing import Any

from inphase.host.process import Process
from inphase.recording import recorder_process
from inphase.runtime.children import Children
from inphase.runtime.run_options import RunOptions
from inphase.schedule import Schedule

_MARK_KEY = "m"


class RunRecorder:
    """Started before the first cycle, and finished after the last. Thread: the supervisor's.

    Raises RecordingError for a file that cannot become a recording.
    """

    def __init__(self, described: Schedule, options: RunOptions) -> None:
        self._described = described
        self._path = options.record
        self._options = options.recorder
        self._process: Process | None = None
        if self._path is not None:
            recorder_process.refuse(self._path)

    def start(self, children: Children, store_path: str) -> None:
        """Its process, if a recording is wanted."""
        if self._path is not None:
            line = recorder_process.arguments(
                store_path, self._path, self._described, self._options
            )
            self._process = children.start("recorder", recorder_process.MODULE, line)

    def take(self, keys: str) -> None:
        """The mark among the keys that were pressed: what lies around now is wanted."""
        if _MARK_KEY in keys and self._process is not None and self._process.ended() is None:
            signal.pidfd_send_signal(self._process.pidfd, signal.SIGUSR1)

    def finish(self) -> dict[str, Any]:
        """The outcome, for a summary; nothing where nothing is recorded."""
        if self._process is None or self._path is None:
            return {}
        found = recorder_process.finish(self._process, self._path, self._options)
        return {"recording": found}
