"""The recordings of a conversion: opened, refused where they are not finished, and their losses."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from inphase.errors import RecordingError
from inphase.recording import facts
from inphase.recording.recording import Recording
from inphase.recording.recording_parts import RecordingParts, is_continued

DISCARDED = "discarded"


class EpisodeSpan(NamedTuple):
    """Frames of a recording that belong together, by their places in the file."""

    first: int
    stop: int
    outcome: str = ""
    """empty: nobody said"""


class ConvertedRecording(NamedTuple):
    """A recording that is converted."""

    recording: Recording
    spans: list[EpisodeSpan]
    """the episodes that are taken"""
    notes: list[str]
    """those that are left out, for a person"""


@contextmanager
def opened(path: Path) -> Iterator[Recording]:
    """A finished recording with at least one frame, whose checksums are right. Raises
    RecordingError."""
    with Recording(path) as recording:
        if recording.state == "CUT":
            raise RecordingError(
                f"{path} was cut, so it is not finished; make it whole: inphase recover {path}"
            )
        if not len(recording):
            raise RecordingError(f"{path} has no frame, so there is nothing to convert")
        if damage := recording.damage():
            raise RecordingError(
                f"{path}: {damage[0]}: its numbers may be wrong; leave it out: "
                f"inphase recover {path}"
            )
        yield recording


@contextmanager
def opened_parts(paths: Sequence[Path]) -> Iterator[Recording]:
    """Finished files of one run, in order, as one recording. Raises RecordingError."""
    with ExitStack() as stack:
        parts = [stack.enter_context(opened(path)) for path in paths]
        yield parts[0] if len(parts) == 1 else RecordingParts(parts)


def _joined(recordings: list[Recording]) -> list[Recording]:
    """Files of a run that was split become one recording. Raises RecordingError."""
    groups: list[list[Recording]] = []
    for one in recordings:
        if groups and is_continued(groups[-1][-1], one):
            groups[-1].append(one)
        else:
            groups.append([one])
    return [group[0] if len(group) == 1 else RecordingParts(group) for group in groups]


@contextmanager
def sources(paths: Sequence[Path], outcomes: Sequence[str]) -> Iterator[list[ConvertedRecording]]:
    """Finished recordings and their episodes. outcomes: of those that are taken; none: all but
    discarded ones. Raises RecordingError, also where no episode is left."""
    with ExitStack() as stack:
        recordings = [stack.enter_context(opened(path)) for path in paths]
        found = [_source(one, outcomes) for one in _joined(recordings)]
        if not any(source.spans for source in found):
            notes = "; ".join(note for source in found for note in source.notes)
            raise RecordingError(f"there is no episode to convert: {notes}")
        yield found


def _source(recording: Recording, outcomes: Sequence[str]) -> ConvertedRecording:
    """A recording in which nobody marked an episode is one."""
    episodes = recording.episodes
    if not episodes:
        if outcomes:
            return ConvertedRecording(recording, [], [f"{recording.path} has no marked episode"])
        return ConvertedRecording(recording, [EpisodeSpan(0, len(recording))], [])
    taken, left_out = [], Counter[str]()
    for one in episodes:
        if one.outcome in outcomes or (not outcomes and one.outcome != DISCARDED):
            taken.append(EpisodeSpan(one.first, one.stop, one.outcome))
        else:
            left_out[one.outcome] += 1
    notes = [
        f"{recording.path}: {count} episodes with the outcome {outcome} are left out"
        for outcome, count in left_out.items()
    ]
    if outside := len(recording) - sum(map(len, episodes)):
        notes.append(f"{recording.path}: {outside} frames outside of episodes are left out")
    return ConvertedRecording(recording, taken, notes)


def losses(recording: Recording) -> list[str]:
    """All that is missing in a recording, for a person."""
    if isinstance(recording, RecordingParts):
        return [text for part in recording.parts for text in losses(part)] + recording.breaks
    found = [f"{recording.path}: {text}" for text in recording.troubles]
    end = recording.end or {}
    if missed := int(end.get("missed_frames", 0)):
        found.append(f"{recording.path}: {missed} frames that the recorder was too slow for")
    for key, what in (
        ("recycled_samples", "samples recycled before they were read"),
        ("lost_messages", "messages that the disk had no room for"),
    ):
        if counted := json.loads(end.get(key, "{}")):
            found.append(f"{recording.path}: {what}: {counted}")
    if not found and recording.state != facts.COMPLETE:
        found.append(
            f"{recording.path} is {recording.state}: {end.get('lost', 'not all is there')}"
        )
    return found


def run_facts(recording: Recording) -> dict[str, Any]:
    """The facts of a recording that a converted file keeps, as plain values."""
    return {
        "recording": recording.path.name,
        **(
            {"parts": [part.path.name for part in recording.parts]}
            if isinstance(recording, RecordingParts)
            else {}
        ),
        "state": recording.state,
        "run": recording.run,
        "legend": recording.metadata.get(facts.LEGEND, {}),
        "schedule": recording.schedule_text,
    }
