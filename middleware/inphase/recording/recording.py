"""Reading a recording: its frames as the objects that a robot gives, or as NumPy columns."""

import contextlib
import functools
import json
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from inphase.errors import RecordingError
from inphase.frames import words
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.recording import facts
from inphase.recording.channels import Forms, ImageForm
from inphase.recording.chunk import MESSAGE_HEAD
from inphase.recording.episodes import EpisodeFinder, RecordedEpisode
from inphase.recording.host_channel import HOST_TOPIC, LATE_TOPIC, host_shape, late_shape
from inphase.recording.mcap_file import GAP, PROFILE
from inphase.recording.mcap_scan import FileScan, mapped, scan, wrong_chunks
from inphase.recording.message_shape import MessageShape

_LENGTH = struct.Struct("<Q")
_FIELDS = 22
_BLOCK = 4096
"""messages that are decoded at once"""
_KEPT, _KEPT_BYTES = 64, 1 << 26
"""samples that are kept decoded, at most"""


class Recording:
    """A file that a recorder wrote, also one that was cut; a context manager. Thread: one at a
    time.

    It iterates over the frames that are in it. Their samples are read when they are asked for, and
    are there for as long as the recording is open. Raises RecordingError for a file that is none.
    """

    def __init__(self, path: Path | str) -> None:
        path = self.path = Path(path)
        self._memory = mapped(path)
        try:
            self._scan = _scan(path, self._memory)
            texts = {one.name: one.metadata for one in self._scan.metadata}
            self.run = _texts(path, texts, facts.RUN)
            """robot, schedule_hash, period_ns, wall_offset_ns and so on, as texts"""
            self._read_description(texts)
        except BaseException:
            self._memory.close()
            raise
        self.metadata: dict[str, dict[str, str]] = texts
        """all facts of the file beside its messages, as texts; RECORDING.md lists them"""
        self.end: dict[str, str] | None = texts.get(facts.END)
        """the facts of its end; None: it was cut"""
        self.gaps = [one.metadata for one in self._scan.metadata if one.name == GAP]
        """the losses on a full disk, as texts: topics, and log times"""
        self._frames, *self._samples = map(self._places, self._forms.topics)
        self._sequences: dict[int, NDArray[np.int64]] = {}
        self._decoded: dict[tuple[int, int], NDArray[Any]] = {}

    def _places(self, topic: str) -> NDArray[np.int64]:
        """Of the messages of a channel; none where the file was cut before its definition."""
        numbers = [one.id for one in self._scan.channels.values() if one.topic == topic]
        return self._scan.places(numbers[0] if numbers else -1)

    def _read_description(self, texts: dict[str, dict[str, str]]) -> None:
        """Raises RecordingError for another version's."""
        if self.run.get("format") != str(facts.FORMAT):
            raise RecordingError(
                f"{self.path} has format {self.run.get('format')}, this version reads "
                f"{facts.FORMAT}; use the version of inphase that recorded it: "
                f"{texts.get(facts.RECORDER, {}).get('version_inphase', 'unknown')}"
            )
        try:
            description = json.loads(_texts(self.path, texts, facts.DESCRIPTION)["json"])
            self.layout = Layout.from_description(description)
            self._forms = Forms.of(self.layout, int(self.run["wall_offset_ns"]))
            self.schedule_text = _texts(self.path, texts, facts.SCHEDULE)["toml"]
            """the schedule's file"""
        except (KeyError, ValueError, TypeError) as error:
            raise RecordingError(f"{self.path}: no description of a robot: {error!r}") from error
        self.description: dict[str, Any] = description
        """all that the robot said of itself"""

    @property
    def state(self) -> str:
        """COMPLETE, INCOMPLETE: something is missing, or CUT: it has no end."""
        if self.end is None or not self._scan.has_end:
            return "CUT"
        return self.end.get("state", "CUT")

    @property
    def troubles(self) -> list[str]:
        """The faults of the file, for a person."""
        return self._scan.damaged

    def __repr__(self) -> str:
        robot = self.run.get("robot", "")
        return f"<Recording {self.path} of {robot}: {len(self)} frames, {self.state}>"

    def __len__(self) -> int:
        """The number of its frames."""
        return len(self._frames)

    # ---- frames --------------------------------------------------------------------------------

    def __getitem__(self, index: int) -> Frame:
        """The frame of that place in the file; negative: from the end."""
        index = range(len(self._frames))[index]
        number, record = self._record(index)
        lost = 0 if index == 0 else number - self._record(index - 1)[0] - 1
        return Frame(self.layout, record, _Payloads(self, index), lost)

    def __iter__(self) -> Iterator[Frame]:
        before = None
        for index in range(len(self._frames)):
            number, record = self._record(index)
            lost = 0 if before is None else number - before - 1
            before = number
            yield Frame(self.layout, record, _Payloads(self, index), lost)

    def _message(self, place: int) -> bytes:
        size = _LENGTH.unpack_from(self._memory, place + 1)[0] - _FIELDS
        return self._memory[place + MESSAGE_HEAD : place + MESSAGE_HEAD + size]

    def _record(self, index: int) -> tuple[int, bytes]:
        """A frame's number in the store, and its record. Raises RecordingError."""
        message = self._message(int(self._frames[index]))
        try:
            plain = self._forms.frame.decode(message)
        except ValueError as error:
            raise RecordingError(f"{self.path}: frame {index}: {error}") from error
        return int.from_bytes(plain[:8], "little", signed=True), plain[8:]

    def _sequences_of(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sequence numbers of a sensor's messages, of which each has the low 32 bits."""
        octets = sliding_window_view(np.frombuffer(self._memory, np.uint8), 4)
        low = np.empty(len(places), np.int64)
        for first in range(0, len(places), _BLOCK):
            block = slice(first, first + _BLOCK)
            low[block] = octets[places[block] + 11].view("<u4")[:, 0]
            self.forget()
        return low + (np.cumsum(np.diff(low, prepend=low[:1]) < 0) << 32)

    def sequences(self, sensor: str) -> NDArray[np.int64]:
        """The sequence numbers of all samples of a sensor, in their order, shape (samples,).
        Raises KeyError for an unknown sensor."""
        index = self._index(sensor)
        if index not in self._sequences:
            self._sequences[index] = self._sequences_of(self._samples[index])
        return self._sequences[index]

    def _index(self, sensor: str) -> int:
        """Of a sensor. Raises KeyError."""
        if sensor not in self.layout.indices:
            raise words.unknown("sensor", sensor, self.layout.indices)
        return self.layout.indices[sensor]

    def sample(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A sample by its sequence number, shape (). Raises FrameLost when it is not in the file,
        RecordingError when it is not readable."""
        key = (sensor, sequence)
        if key in self._decoded:
            return self._decoded[key]
        name = self.layout.sensors[sensor]
        sequences = self.sequences(name)
        at = int(np.searchsorted(sequences, sequence))
        if at == len(sequences) or sequences[at] != sequence:
            raise FrameLost(f"sample {sequence} of {name} is not in {self.path}")
        message = self._message(int(self._samples[sensor][at]))
        try:
            value = self._forms.samples[sensor].decode(message)
        except ValueError as error:
            raise RecordingError(f"{self.path}: sample {sequence} of {name}: {error}") from error
        value.flags.writeable = False
        kept = max(1, min(_KEPT, _KEPT_BYTES // value.nbytes))
        while len(self._decoded) >= kept:
            del self._decoded[next(iter(self._decoded))]
        self._decoded[key] = value
        return value

    # ---- columns -------------------------------------------------------------------------------

    def frames(self, first: int = 0, stop: int | None = None) -> NDArray[Any]:
        """All frames as one structured array, shape (len,): `number` and the fields of the header,
        then `sensors.NAME.FIELD` and `actuators.NAME.FIELD`; a number that is absent is ABSENT or
        -1. first, stop: those of a stretch, by their places in the file, as in a slice."""
        return self._columns(self._forms.frame, self._frames[first:stop])

    def stretches(self, rows: int) -> Iterator[NDArray[Any]]:
        """All frames as `frames` gives them, at most so many at a time: memory holds one stretch,
        however long the file is."""
        for first in range(0, len(self._frames), rows):
            yield self.frames(first, first + rows)
            self.forget()

    @functools.cached_property
    def episodes(self) -> list[RecordedEpisode]:
        """The episodes that were marked while it was recorded, in order; none: no episode was. An
        episode that began in the file before has the frames that are in this one."""
        finder = EpisodeFinder()
        for frames in self.stretches(_BLOCK):
            finder.take(frames)
        return finder.found(self._scores())

    def _scores(self) -> dict[str, float]:
        """Of episodes, by number. Raises RecordingError for what are none."""
        text = (self.end or {}).get("scores", "{}")
        try:
            return msgspec.json.decode(text, type=dict[str, float])
        except msgspec.MsgspecError as error:
            raise RecordingError(f"{self.path}: the scores of its episodes: {error}") from error

    def forget(self) -> None:
        """Let go of what memory holds of the file: it is read again when it is asked for."""
        self._memory.madvise(mmap.MADV_DONTNEED)

    def damage(self) -> list[str]:
        """Chunks whose bytes do not have their checksum, for a person; reads all of the file."""
        places = wrong_chunks(self._memory)
        return [f"the chunk at byte {place} has another checksum" for place in places]

    def samples(self, sensor: str, first: int = 0, stop: int | None = None) -> NDArray[Any]:
        """All samples of a sensor as one structured array: `cycle`, `sequence`, `acquired_ns` and
        `value.FIELD`. first, stop: those of a stretch, by their places among its samples. Raises
        KeyError for an unknown sensor, ValueError for one of images."""
        index = self._index(sensor)
        form = self._forms.samples[index]
        if isinstance(form, ImageForm):
            raise ValueError(f"{sensor} gives images: take them frame by frame")
        return self._columns(form.shape, self._samples[index][first:stop])

    def host(self) -> NDArray[Any]:
        """Disturbances of the cycle thread by its host, one structured array of int64: `from_ns`,
        `until_ns`, `page_faults`, `preemptions`, `waited_ns` and `stolen_ns`, -1: unknown. Empty
        where nobody counted, as in lock step."""
        return self._columns(host_shape(), self._places(HOST_TOPIC))

    def late(self) -> NDArray[Any]:
        """Late moments of cycles and whose fault they were, as rows of LATE of late_moment.py.
        Empty where nobody looked, as in lock step."""
        return self._columns(late_shape(), self._places(LATE_TOPIC))

    def _columns(self, shape: MessageShape, places: NDArray[np.int64]) -> NDArray[Any]:
        """Decoded in blocks, and in groups of messages of one size. Raises RecordingError."""
        found = np.empty((len(places), shape.plain.itemsize), np.uint8)
        octets = np.frombuffer(self._memory, np.uint8)
        for first in range(0, len(places), _BLOCK):
            block = slice(first, first + _BLOCK)
            starts = places[block]
            sizes = sliding_window_view(octets, 8)[starts + 1].view("<u8")[:, 0] - _FIELDS
            for size in np.unique(sizes).tolist():
                is_of = sizes == size
                try:
                    messages = sliding_window_view(octets, size)[starts[is_of] + MESSAGE_HEAD]
                    found[block][is_of] = shape.decode_rows(messages)
                except (ValueError, IndexError) as error:  # the file is damaged
                    raise RecordingError(f"{self.path}: {error}") from error
        return found.view(shape.plain)[:, 0]

    def close(self) -> None:
        """End it: its frames' samples are gone."""
        with contextlib.suppress(BufferError):  # an error's traceback has a view: it goes with that
            self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Payloads:
    """The samples of a recorded frame, and the frames before it."""

    def __init__(self, recording: Recording, index: int) -> None:
        self._recording = recording
        self._index = index

    def view(self, sensor: int, sequence: int) -> NDArray[Any]:
        """A sample. Raises FrameLost when it is not in the file."""
        return self._recording.sample(sensor, sequence)

    def intact(self, sensor: int, sequence: int) -> bool:
        """Always: nobody writes it."""
        return True

    def whole(self, record: bytes) -> bool:
        """Always."""
        return True

    def past(self, cycle: int) -> Iterator[tuple[bytes, "_Payloads"]]:
        """The frames before a cycle, newest first."""
        for index in range(self._index, -1, -1):
            frame = self._recording[index]
            if frame.cycle < cycle:
                yield frame.record, _Payloads(self._recording, index)


def _scan(path: Path, memory: mmap.mmap) -> FileScan:
    """Raises RecordingError for what is no recording of ours."""
    try:
        found = scan(memory)
    except ValueError as error:
        raise RecordingError(f"{path} is no recording: {error}") from error
    if found.header is None or found.header.profile != PROFILE:
        profile = None if found.header is None else found.header.profile
        raise RecordingError(
            f"{path} is an MCAP file with profile {profile!r}, and no recording of inphase"
        )
    return found


def _texts(path: Path, texts: dict[str, dict[str, str]], name: str) -> dict[str, str]:
    """Raises RecordingError where the file does not have them."""
    if name not in texts:
        raise RecordingError(f"{path} has no {name}: it was cut before the first frame")
    return texts[name]
