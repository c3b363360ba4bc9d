"""The recorder of a run, from the side of whoever starts it."""

import json
import os
import select
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from inphase.errors import RecordingError
from inphase.host.process import Process
from inphase.recording.packages import require
from inphase.schedule import Schedule

MODULE = "inphase.recording.recorder"
_WORST = ("COMPLETE", "INCOMPLETE", "CUT")
_SCORES_BYTES = 1 << 16  # of all lines, as much as a pipe holds
_FINISH_S = 30.0  # for what its memory holds: at most a chunk, and the index


@dataclass(frozen=True)
class RecorderOptions:
    """The files that a recorder makes."""

    split_bytes: int | None = None
    """from this size on a file is followed by the next"""
    split_ns: int | None = None
    """likewise, from this time on"""
    around_ns: int | None = None
    """only what lies so near to an emergency stop, a latch or a mark is written; None: all"""
    by_episode: bool = False
    """only episodes are written, each into a file of its own"""

    from_now: bool = False
    """those of a run from the next frame on: what was before is not missing"""
    scores_fd: int = -1
    """a pipe with the scores of episodes; -1: there is none"""

    @property
    def may_be_empty(self) -> bool:
        """A run without what is wanted leaves no file."""
        return self.by_episode or self.around_ns is not None


def part_of(path: Path, number: int) -> Path:
    """The path of a recorder's file of that number, from 1 on."""
    return path if number == 1 else path.with_suffix(f".{number}{path.suffix}")


def refuse(path: Path) -> None:
    """Before anything is started: raise RecordingError for what cannot become a recording."""
    require()
    refuse_name(path)


def refuse_name(path: Path) -> None:
    """Raise RecordingError for a name under which no file can be made."""
    if os.path.lexists(path):
        raise RecordingError(f"{path} is there already; give another name")
    if not path.parent.is_dir():
        raise RecordingError(f"{path}: there is no folder {path.parent}; make it")


def arguments(
    store_path: str,
    path: Path,
    described: Schedule,
    options: RecorderOptions,
    taken_fd: int = -1,
) -> list[str]:
    """Of its process."""
    return [store_path, str(path), str(described.path), str(taken_fd), json.dumps(asdict(options))]


def score_line(episode: int, score: float) -> bytes:
    """The score of an episode, for `scores_fd`."""
    return f"{episode} {score:.6g}\n".encode()


def read_scores(fd: int) -> dict[str, str]:
    """The fact of a recording's end that those lines make; none: no score came. Never waits."""
    try:
        lines = os.read(fd, _SCORES_BYTES).decode().splitlines() if fd >= 0 else []
    except BlockingIOError:
        lines = []
    scores = {episode: float(score) for episode, score in (line.split() for line in lines)}
    return {"scores": json.dumps(scores)} if scores else {}


def finish(recorder: Process, path: Path, options: RecorderOptions) -> dict[str, Any]:
    """Let it write what the store holds and the file's end; the outcome, for a summary."""
    recorder.ask_to_end()
    wait(recorder)
    return outcome(path, options)


def wait(recorder: Process) -> None:
    """Until it has written what it was asked to, after `ask_to_end`; bounded."""
    select.select([recorder.pidfd], [], [], _FINISH_S)
    recorder.stop()


def outcome(path: Path, options: RecorderOptions) -> dict[str, Any]:
    """The outcome of a recording, of all its files, as plain values."""
    if options.may_be_empty and not path.exists():
        return {"path": str(path), "state": "COMPLETE", "frames": 0, "files": 0, "trouble": []}
    from inphase.recording.recording import Recording

    found: dict[str, Any] = {"path": str(path), "state": "COMPLETE", "frames": 0}
    found |= {"files": 0, "missed_frames": 0, "trouble": []}
    epoch = None
    while (part := part_of(path, found["files"] + 1)).exists():
        try:
            with Recording(part) as recording:
                if recording.run["epoch"] != (epoch or recording.run["epoch"]):
                    break  # another run's
                epoch = recording.run["epoch"]
                end = recording.end or {}
                found["frames"] += len(recording)
                found["missed_frames"] += int(end.get("missed_frames", 0))
                found["trouble"] += recording.troubles
                found["state"] = max(found["state"], recording.state, key=_WORST.index)
        except RecordingError as error:
            if epoch is not None:
                break  # none of ours: the recorder says why it did not go on there
            found |= {"state": "CUT", "trouble": [str(error)]}
        found["files"] += 1
    return found
