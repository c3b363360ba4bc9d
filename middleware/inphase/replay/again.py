"""A run in lock step once more, from its seed: the same bytes, or in what they differ."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from inphase.episodes import lockstep
from inphase.errors import RecordingError
from inphase.recording.recording import Recording
from inphase.schedule import Schedule
from inphase.timing.differences import Differences, find


def has_seed(recording: Recording) -> bool:
    """True for a recording of lock step."""
    return isinstance(recording.description.get("lockstep"), dict)


def refuse_another(recording: Recording, described: Schedule) -> None:
    """Raise RecordingError for a schedule that is not the recorded one."""
    if recording.layout.hash != described.hash:
        raise RecordingError(
            f"{recording.path} was recorded with another schedule (hash {recording.layout.hash}) "
            f"than {described.path} is now ({described.hash}); give the recorded one, which is its "
            f"metadata inphase.schedule"
        )


def run_again(
    recording: Recording, described: Schedule, watch: Callable[[int, int], None]
) -> Differences:
    """Run the schedule of a recording with its seed for as many cycles, and compare the two.

    The second recording lies in a temporary folder, and is gone afterwards. watch: is told how many
    frames of how many are compared. Raises RecordingError for another schedule or no frame,
    ScheduleError.
    """
    assert has_seed(recording), recording.path
    made_with = recording.description["lockstep"]
    refuse_another(recording, described)
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
