"""A run in lock step once more, from its seed: the same bytes, or in what they differ."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from inphase.episodes import lockstep
from inphase.errors import RecordingError
from inphase.recording.recording import Recording
from inphase.schedule import Schedule
from inphase.timing.differences import Differences, find


def run_again(
    recording: Recording, described: Schedule, watch: Callable[[int, int], None]
) -> Differences:
    """Run the schedule of a recording with its seed for as many cycles, and compare the two.

    The second recording lies in a temporary folder, and is gone afterwards. watch: is told how many
    frames of how many are compared. Raises RecordingError for a recording that cannot come again,
    ScheduleError.
    """
    made_with = recording.description.get("lockstep")
    if not isinstance(made_with, dict):
        raise RecordingError(
            f"{recording.path} was not recorded in lock step, and the wall clock does not come "
            f"again; follow its timing: inphase run {described.path} --lockstep --timing "
            f"{recording.path}"
        )
    if recording.layout.hash != described.hash:
        raise RecordingError(
            f"{recording.path} was recorded with another schedule (hash {recording.layout.hash}) "
            f"than {described.path} is now ({described.hash}); give the recorded one, which is its "
            f"metadata inphase.schedule"
        )
    if not len(recording):
        raise RecordingError(f"{recording.path} has no frame")
    timing = made_with.get("timing")
    with tempfile.TemporaryDirectory(prefix="inphase-") as folder:
        path = Path(folder) / "again.mcap"
        lockstep.run(
            described,
            recording[-1].cycle + 1,
            seed=int(made_with["seed"]),
            episode=int(made_with["episode"]),
            observe=bool(made_with["observe"]),
            timing=None if timing is None else Path(timing),
            record=path,
        )
        return find(recording.path, path, watch)
