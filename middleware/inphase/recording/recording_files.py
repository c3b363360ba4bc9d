"""The files of a recorder: one after the other, without a gap, or only around what was wanted."""

import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mcap import records

from inphase.errors import RecordingError
from inphase.recording import facts
from inphase.recording.chunk import Chunk, HeldMessage, Recycled
from inphase.recording.mcap_file import McapFile
from inphase.recording.recorder_process import RecorderOptions, part_of


@dataclass
class Shortfall:
    """Frames and samples that never reached the recorder, and messages that had no room."""

    missed: int = 0
    """frames"""
    recycled: Counter[str] = field(default_factory=Counter)
    """samples, by sensor"""
    lost: Counter[str] = field(default_factory=Counter)
    """messages, by topic"""

    def add(self, other: "Shortfall") -> None:
        """Take in those of a chunk, or of a file."""
        self.missed += other.missed
        self.recycled += other.recycled
        self.lost += other.lost

    def __bool__(self) -> bool:
        return bool(self.missed or self.recycled or self.lost)

    def __str__(self) -> str:
        found = []
        if self.missed:
            found.append(f"{self.missed} frames that the recorder was too slow for")
        if self.recycled:
            found.append(f"samples recycled before they were read: {dict(self.recycled)}")
        if self.lost:
            found.append(f"messages that there was no room for: {dict(self.lost)}")
        return ", ".join(found)


class Head(NamedTuple):
    """The start of each file."""

    library: str
    schemas: Sequence[records.Schema]
    channels: Sequence[records.Channel]
    metadata: Sequence[records.Metadata]


class RecordingFiles:
    """Takes chunks in order. Thread: one at a time.

    path: of the first file, which is made; with `around_ns` once there is something to be in it.
    Raises RecordingError.
    """

    def __init__(
        self, path: Path, head: Head, say: Callable[[str], None], options: RecorderOptions
    ) -> None:
        self._path = path
        self._head = head
        self._say = say
        self._options = options
        self.shortfall = Shortfall()
        """of all files so far"""
        self._of_file = Shortfall()
        self._number = 0
        self._has_room = True
        self._told = ""
        self._is_marked = False
        self._wanted_until_ns = 0
        self._episode = 0
        """the number of the one that is being written, 0: none"""
        self._before: deque[tuple[Chunk, Shortfall]] = deque()
        self._frames = 0
        self._started_ns = 0
        self._file: McapFile | None = None
        if not options.may_be_empty:
            self._file = self._open()

    def _open(self) -> McapFile:
        """The next file. Raises RecordingError."""
        number = self._number + 1
        path = part_of(self._path, number)
        part = records.Metadata(facts.PART, {"number": str(number), "first": self._path.name})
        library, schemas, channels, described = self._head
        file = McapFile(path, library, schemas, channels, [*described, part])
        self._number = number
        self._started_ns = 0
        self._of_file = Shortfall()
        return file

    def mark(self) -> None:
        """The frames around now are wanted. Callable from a signal handler."""
        self._is_marked = True

    def begin_episode(self, number: int) -> None:
        """The chunks from the next one on belong to it."""
        self._episode = number

    def end_episode(self) -> None:
        """The chunks from the next one on belong to none."""
        self._episode = 0
        if self._options.by_episode:
            self._end_file({})

    def take(self, chunk: Chunk, shortfall: Shortfall, held: Sequence[HeldMessage] = ()) -> bool:
        """Write a chunk with the messages that follow in it, or keep it until it is wanted. True: a
        file ended with it. Of the messages that were recycled meanwhile the shortfall is told."""
        followed = chunk
        for message in held:
            followed = followed.followed_by(message)
        try:
            return self._take(followed, shortfall)
        except Recycled:
            whole = [message for message in held if message.is_intact()]
            shortfall.recycled.update(one.name for one in held if one not in whole)
            return self.take(chunk, shortfall, whole)

    def _take(self, chunk: Chunk, shortfall: Shortfall) -> bool:
        """Raises Recycled, and then nothing was written or kept."""
        if self._options.by_episode:
            return self._take_of_episode(chunk, shortfall)
        around_ns = self._options.around_ns
        if around_ns is None:
            self._write(chunk, shortfall)
            return self._split()
        if self._is_marked:
            self._is_marked = False
            self._wanted_until_ns = chunk.last_ns + around_ns
        if chunk.start_ns <= self._wanted_until_ns and self._begin():
            self._write(chunk, shortfall)
            return self._split()
        ended = self._file is not None
        self._keep(chunk, shortfall, around_ns)
        self._end_file({})
        return ended

    def _take_of_episode(self, chunk: Chunk, shortfall: Shortfall) -> bool:
        """Likewise, where only episodes are wanted. True: the next one begins anew."""
        if not self._episode:
            return True
        if self._begin():
            self._write(chunk, shortfall)
            return self._split()
        return False

    def _begin(self) -> bool:
        """Have a file, with what was kept; False: there is no room for one."""
        if self._file is None:
            try:
                self._file = self._open()
            except RecordingError as error:
                self._tell(error)
                return False
            while self._before:
                self._write(*self._before.popleft())
        return True

    def _tell(self, error: RecordingError) -> None:
        """Once, however often it is tried."""
        if self._told != str(error):
            self._told = str(error)
            self._say(self._told)

    def _keep(self, chunk: Chunk, shortfall: Shortfall, around_ns: int) -> None:
        self._before.append((chunk.kept(), shortfall))
        while self._before[0][0].last_ns < chunk.last_ns - around_ns:
            self._before.popleft()

    def _write(self, chunk: Chunk, shortfall: Shortfall) -> None:
        assert self._file is not None
        had_room, self._has_room = self._has_room, self._file.write(chunk)
        self._started_ns = self._started_ns or chunk.start_ns
        lost = Counter() if self._has_room else self._topics(chunk.counts)
        for part in (self._of_file, self.shortfall):
            part.add(shortfall)
            part.lost += lost
        if had_room and not self._has_room:
            self._say(f"no room for {self._file.path}: frames are lost until there is some")
        if not had_room and self._has_room:
            self._say(f"there is room for {self._file.path} again")
        self._last_ns = chunk.last_ns

    def _topics(self, counts: Counter[int]) -> Counter[str]:
        topics = {channel.id: channel.topic for channel in self._head.channels}
        return Counter({topics[channel]: count for channel, count in sorted(counts.items())})

    def _split(self) -> bool:
        """Go on in the next file, if it is time; in this one where there is no room for it."""
        assert self._file is not None
        options, age_ns = self._options, self._last_ns - self._started_ns
        is_large = options.split_bytes is not None and self._file.size >= options.split_bytes
        is_old = options.split_ns is not None and age_ns >= options.split_ns
        if not (is_large or is_old):
            return False
        before, shortfall = self._file, self._of_file
        try:
            following = self._open()
        except RecordingError as error:
            self._tell(error)
            return False
        self._close(before, shortfall, {"next": following.path.name})
        self._file = following
        return True

    def _end_file(self, end: dict[str, str]) -> None:
        if self._file is not None:
            self._close(self._file, self._of_file, end)
            self._file = None

    def _close(self, file: McapFile, shortfall: Shortfall, end: dict[str, str]) -> None:
        """Raises RecordingError."""
        found = {
            "state": facts.INCOMPLETE if shortfall else facts.COMPLETE,
            "frames": str(file.counts[0]),
            "missed_frames": str(shortfall.missed),
            "recycled_samples": json.dumps(shortfall.recycled),
            "lost_messages": json.dumps(shortfall.lost),
        }
        file.close(records.Metadata(facts.END, found | end))
        self._frames += file.counts[0]

    def close(self, end: dict[str, str]) -> str:
        """Write the end of the last file; the outcome, in a line. end: more facts. Raises
        RecordingError."""
        self._end_file(end)
        if not self._number:
            return f"{self._path}: nothing was wanted, and nothing is written"
        files = "" if self._number == 1 else f" in {self._number} files"
        text = f"{self._path}: {self._frames} frames{files}"
        if not self.shortfall:
            return text
        return f"{text}; {facts.INCOMPLETE}: without {self.shortfall}"
