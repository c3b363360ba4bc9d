"""Several files of one run, as `--split-mb` makes them, read as one recording."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import RecordingError
from inphase.recording import facts
from inphase.recording.message_shape import MessageShape
from inphase.recording.recording import Recording


def is_continued(part: Recording, following: Recording) -> bool:
    """True if a file was split off from the one before it: the same run, and no end yet."""
    is_same_run = part.layout.epoch == following.layout.epoch
    return is_same_run and "next" in (part.end or {})


class RecordingParts(Recording):
    """The files in order, as `Recording` reads one. It closes them.

    A sample that several files have is there once. Raises RecordingError where the files are not of
    one run, or not in order.
    """

    def __init__(self, parts: Sequence[Recording]) -> None:
        first = parts[0]
        self.parts = list(parts)
        self.path, self.run, self.metadata = first.path, first.run, first.metadata
        self.layout, self.schedule_text = first.layout, first.schedule_text
        self.description, self._forms = first.description, first._forms
        self.end = parts[-1].end
        self.gaps = [gap for part in parts for gap in part.gaps]
        self.breaks: list[str] = []
        """frames that are missing between two files, for a person"""
        for part, following in pairwise(parts):
            self._check(part, following)
        # places of all files in a row: each file begins where the one before it ends
        self._starts = np.cumsum([0, *(len(part._memory) for part in parts)])
        self._frames, *self._samples = (
            self._joined([part._places(topic) for part in parts], is_sample=index > 0)
            for index, topic in enumerate(self._forms.topics)
        )
        self._sequences: dict[int, NDArray[np.int64]] = {}
        self._decoded: dict[tuple[int, int], NDArray[Any]] = {}

    def _check(self, part: Recording, following: Recording) -> None:
        """Note a gap between two files. Raises RecordingError."""
        if part.layout.epoch != following.layout.epoch:
            raise RecordingError(
                f"{following.path} is of another run than {part.path}; convert it by itself"
            )
        last, first = part.frames(-1)[0], following.frames(0, 1)[0]
        missing = int(first["number"] - last["number"]) - 1
        if missing < 0:
            raise RecordingError(
                f"{following.path} begins with cycle {first['cycle']}, and {part.path} ends with "
                f"cycle {last['cycle']}; give the files in their order, each once"
            )
        if missing:
            self.breaks.append(
                f"{missing} frames between {part.path}, which ends with cycle {last['cycle']}, and "
                f"{following.path}, which begins with cycle {first['cycle']}"
            )

    def _joined(self, places: list[NDArray[np.int64]], *, is_sample: bool) -> NDArray[np.int64]:
        """Of a channel's messages; a sample that an earlier file has is left out."""
        found, newest = [], -1
        for part, start, some in zip(self.parts, self._starts.tolist(), places, strict=False):
            is_new = np.ones(len(some), bool)
            if is_sample and len(some):
                sequences = part._sequences_of(some)
                is_new = sequences > newest
                newest = max(newest, int(sequences[-1]))
            found.append(some[is_new] + start)
        return np.concatenate(found)

    def _each(self, places: NDArray[np.int64]) -> list[tuple[Recording, NDArray[np.int64]]]:
        """The places by their file, in it."""
        ends = np.searchsorted(places, self._starts)
        return [
            (part, places[ends[at] : ends[at + 1]] - self._starts[at])
            for at, part in enumerate(self.parts)
        ]

    def _places(self, topic: str) -> NDArray[np.int64]:
        return self._joined([part._places(topic) for part in self.parts], is_sample=False)

    def _message(self, place: int) -> bytes:
        at = int(np.searchsorted(self._starts, place, side="right")) - 1
        return self.parts[at]._message(place - int(self._starts[at]))

    def _sequences_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([part._sequences_of(some) for part, some in self._each(places)])

    def _columns(self, shape: MessageShape, places: NDArray[np.int64]) -> NDArray[Any]:
        return np.concatenate([part._columns(shape, some) for part, some in self._each(places)])

    @property
    def state(self) -> str:
        """COMPLETE if each file is, and none is missing between them."""
        states = {part.state for part in self.parts} - {facts.COMPLETE}
        return max(states, default=facts.INCOMPLETE if self.breaks else facts.COMPLETE)

    @property
    def troubles(self) -> list[str]:
        """Of all files."""
        return [text for part in self.parts for text in part.troubles]

    def forget(self) -> None:
        """Of all files."""
        for part in self.parts:
            part.forget()

    def damage(self) -> list[str]:
        """Of all files."""
        return [text for part in self.parts for text in part.damage()]

    def close(self) -> None:
        """End all of them."""
        for part in self.parts:
            part.close()
