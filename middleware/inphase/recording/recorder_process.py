"""The recorder of a run, from the side of whoever starts it."""

import os
import select
from pathlib import Path
from typing import Any

from inphase.errors import RecordingError
from inphase.host.process import Process
from inphase.recording.packages import require
from inphase.schedule import Schedule

MODULE = "inphase.recording.recorder"
_FINISH_S = 30.0  # for what its memory holds: at most a chunk, and the index


def refuse(path: Path) -> None:
    """Before anything is started: raise RecordingError for what cannot become a recording."""
    require()
    if os.path.lexists(path):
        raise RecordingError(f"{path} is there already; give another name")
    if not path.parent.is_dir():
        raise RecordingError(f"{path}: there is no folder {path.parent}; make it")


def arguments(store_path: str, path: Path, described: Schedule, taken_fd: int = -1) -> list[str]:
    """Of its process."""
    return [store_path, str(path), str(described.path), str(taken_fd)]


def finish(recorder: Process, path: Path) -> dict[str, Any]:
    """Let it write what the store holds and the file's end; the outcome, for a summary."""
    recorder.ask_to_end()
    select.select([recorder.pidfd], [], [], _FINISH_S)
    recorder.stop()
    return outcome(path)


def outcome(path: Path) -> dict[str, Any]:
    """The outcome of a recording, as plain values."""
    from inphase.recording.recording import Recording

    try:
        with Recording(path) as recording:
            end = recording.end or {}
            return {
                "path": str(path),
                "state": recording.state,
                "frames": len(recording),
                "missed_frames": int(end.get("missed_frames", 0)),
                "trouble": recording.troubles,
            }
    except RecordingError as error:
        return {"path": str(path), "state": "CUT", "frames": 0, "trouble": [str(error)]}
