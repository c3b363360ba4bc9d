"""The recorder: follows a robot's frames as any reader does, and writes them to a file.

    python -m inphase.recording.recorder STORE FILE SCHEDULE TAKEN_FD OPTIONS

It is a process of its own: a disk that stands still holds up nothing else. Frames that it was too
slow for, samples that were recycled before they were read, and messages that the disk had no room
for are counted, said, and marked in the file, which then is INCOMPLETE. SCHEDULE is its path;
TAKEN_FD an eventfd that counts the frames taken, or -1. OPTIONS are the fields of RecorderOptions,
as JSON. SIGUSR1 is a mark.
"""

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from mcap import records

from inphase.errors import InphaseError, RecordingError, StoreError
from inphase.frames import store
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.frames.record_layout import FRAME_FLAGS
from inphase.frames.store_follower import StoreFollower
from inphase.frames.subscription import subscribe
from inphase.host import process
from inphase.recording import facts
from inphase.recording.channels import Forms, descriptor_set
from inphase.recording.chunk import ChunkBuilder, HeldMessage
from inphase.recording.episodes import EpisodeMark
from inphase.recording.host_channel import (
    HOST_MEANING,
    HOST_TOPIC,
    LATE_MEANING,
    LATE_TOPIC,
    HostFollower,
    LateFollower,
)
from inphase.recording.recorder_process import RecorderOptions, read_scores, refuse
from inphase.recording.recording_files import Head, RecordingFiles, Shortfall
from inphase.schedule import Schedule, load

_WAIT_S = 0.05
_FLUSH_S = 0.5  # what is older than a second is to be on the disk
_CHUNK_BYTES = 1 << 20
_HELD_BYTES = 1 << 18  # a sample that is so large is written right from its ring
_SILENT_S = 5.0
_OF_HEADER = ("cycle", "latched_ns", "flags", "episode", "outcome")
_OF_ROW = ("sequence", "acquired_ns")
_FAULTS = sum(1 << FRAME_FLAGS.index(name) for name in ("LATCHED", "ESTOP"))


class FrameSource(Protocol):
    """The origin of frames: the store of this host, or a gateway."""

    @property
    def layout(self) -> Layout:
        """Names, dtypes, units."""

    @property
    def description(self) -> dict[str, Any]:
        """All that the robot says of itself."""

    @property
    def number(self) -> int:
        """Of the frame that was given last, in the store; -1 before the first."""

    def next(self, timeout_s: float | None = None) -> Frame:
        """The next frame. Raises TimeoutError, and store.Lost at the robot's end."""


class Recorder:
    """Writes the frames of a source to a file, from the next one on; `run`, then `close`.

    reader: of the source's store, which tells what the host did; None: it is not on this host.
    first: number of the frame that is to be the first; None: whichever comes. path: of the file,
    which is made. Further ones have `.2`, `.3` and so on before the ending. Raises RecordingError.
    """

    def __init__(
        self,
        source: FrameSource,
        path: Path,
        schedule: Schedule | None,
        say: Callable[[str], None],
        *,
        reader: store.Reader | None = None,
        first: int | None = None,
        options: RecorderOptions | None = None,
    ) -> None:
        self._source = source
        self._layout = source.layout
        self._say = say
        offset_ns = source.description.get("wall_offset_ns")
        # virtual time has none: its start is now
        self._offset_ns = int(time.time_ns() if offset_ns is None else offset_ns)
        self._forms = Forms.of(self._layout, self._offset_ns)
        self._host = HostFollower(reader)
        self._late = LateFollower(reader)
        channels = {HOST_TOPIC: HOST_MEANING, LATE_TOPIC: LATE_MEANING}
        described = facts.of_run(
            source.description,
            self._forms,
            self._offset_ns,
            schedule,
            is_here=reader is not None,
            beside=channels,
        )
        library = f"inphase {metadata.version('inphase')}"
        head = Head(library, *_definitions(self._forms, self._host, self._late), described)
        self._looked_at = self._layout.record.only(_OF_HEADER, _OF_ROW)
        self._newest = [-1] * len(self._layout.sensors)
        self._expected, self._is_guest = first, first is None
        self._gathered = ChunkBuilder()
        self._log_ns = self._offset_ns
        self._episode = EpisodeMark(0, 0)
        self._shortfall = Shortfall()
        """of what has gathered"""
        self._files = RecordingFiles(path, head, say, options or RecorderOptions())

    def run(self, is_stopping: Callable[[], bool], taken: Callable[[], None]) -> None:
        """Record until the robot's end; once it is stopping, what the source still holds. taken: is
        called after each frame."""
        left = max([*self._layout.depths, 1 << 16])
        flush_s = time.monotonic() + _FLUSH_S
        # whoever starts a run sees its end; a robot that is followed may be gone without a word
        silent_s = time.monotonic() + _SILENT_S if self._is_guest else math.inf
        while left > 0:
            try:
                frame = self._source.next(0.0 if is_stopping() else _WAIT_S)
            except TimeoutError:
                if is_stopping():
                    return
                if time.monotonic() >= silent_s:
                    self._say(f"no frame came for {_SILENT_S:g} s: it waits on; ^C ends it")
                    silent_s = math.inf
            except store.Lost:
                return
            else:
                if self._source.layout.epoch != self._layout.epoch:
                    self._say(f"{self._layout.robot} was started again: that is another run")
                    return
                self._take(frame)
                taken()
                if self._is_guest:
                    silent_s = time.monotonic() + _SILENT_S
                left -= is_stopping()
            if (
                self._gathered.held
                or self._gathered.size >= _CHUNK_BYTES
                or time.monotonic() >= flush_s
            ):
                self.flush()
                flush_s = time.monotonic() + _FLUSH_S

    def mark(self) -> None:
        """A person wants what lies around now. Callable from a signal handler."""
        self._files.mark()

    def _take(self, frame: Frame) -> None:
        number, record = self._source.number, bytes(frame.record)
        cycle, latched_ns, flags, *head = self._looked_at.unpack_from(record)
        rows = head[2:]
        log_ns = latched_ns + self._offset_ns
        is_edge = self._follow_episode(EpisodeMark(*head[:2]))
        if self._expected is not None and number > self._expected:
            self._miss(number - self._expected, cycle)
        self._expected = number + 1
        message = self._forms.frame.encode(number.to_bytes(8, "little") + record)
        self._gathered.add(0, cycle, log_ns, message)
        for index, newest in enumerate(self._newest):
            if rows[2 * index] > newest:
                self._newest[index] = rows[2 * index]
                self._take_sample(index, rows[2 * index : 2 * index + 2], frame, cycle, log_ns)
        if (counted := self._host.after(latched_ns)) is not None:
            self._gathered.add(len(self._newest) + 1, cycle, log_ns, counted)
        self._log_ns = log_ns
        self._take_late()
        if flags & _FAULTS:
            self._files.mark()
        if is_edge and not self._episode.is_running:
            self.flush()  # an episode is durable from its end on
            self._files.end_episode()

    def _take_late(self) -> None:
        """The late moments that were told since, some of them after the last frame."""
        for number, message in self._late.after():
            self._gathered.add(len(self._newest) + 2, number, self._log_ns, message)

    def _follow_episode(self, now: EpisodeMark) -> bool:
        """True: the frame is the first of an episode, or tells another outcome of it."""
        before, self._episode = self._episode, now
        if now == before:
            return False
        if now.is_running:
            self.flush()  # what was before it may be in another file
            self._files.begin_episode(now.number)
        return True

    def _take_sample(
        self, index: int, row: Sequence[int], frame: Frame, cycle: int, log_ns: int
    ) -> None:
        """row: the values of _OF_ROW."""
        sequence, acquired_ns = row
        payloads, name = frame.payloads, self._layout.sensors[index]
        try:
            value = payloads.view(index, sequence)
        except FrameLost:
            self._shortfall.recycled[name] += 1
            return
        message = self._forms.samples[index].encode(cycle, sequence, acquired_ns, value)
        if len(message[-1]) >= _HELD_BYTES and isinstance(message[-1], memoryview):
            self._gathered.held.append(
                HeldMessage(
                    name,
                    index + 1,
                    sequence,
                    log_ns,
                    message,
                    lambda: payloads.intact(index, sequence),
                )
            )
            return
        self._gathered.add(index + 1, sequence, log_ns, *message)
        if not payloads.intact(index, sequence):
            self._gathered.undo(index + 1)
            self._shortfall.recycled[name] += 1

    def _miss(self, count: int, cycle: int) -> None:
        if not self._files.shortfall and not self._shortfall:
            self._say(f"too slow: {count} frames before cycle {cycle} are missing")
        self._shortfall.missed += count

    def flush(self) -> None:
        """Write what has gathered, or keep it until it is wanted; a lack of room is said."""
        chunk, held = self._gathered.take(), self._gathered.take_held()
        if chunk is None:
            return
        shortfall, self._shortfall = self._shortfall, Shortfall()
        if self._files.take(chunk, shortfall, held):
            # another file is to have the samples that its first frames name
            self._newest = [-1] * len(self._newest)

    @property
    def is_whole(self) -> bool:
        """True if nothing is missing so far."""
        return not (self._files.shortfall or self._shortfall)

    def close(self, end: dict[str, str]) -> str:
        """Write the rest and the end of the file; what became of it, in a line. end: more facts.
        Raises RecordingError."""
        self._take_late()
        self.flush()
        return self._files.close(end)


def _definitions(
    forms: Forms, host: HostFollower, late: LateFollower
) -> tuple[list[records.Schema], list[records.Channel]]:
    """Of all channels, each with a schema of its own. The last ones are of the host, and of late
    moments."""
    groups = [host.shape.group, late.shape.group]
    described = [*forms.schemas, *((one.type_name, descriptor_set(one)) for one in groups)]
    schemas = [
        records.Schema(id=number, name=name, encoding="protobuf", data=data)
        for number, (name, data) in enumerate(described, 1)
    ]
    made = [
        records.Channel(
            id=number, topic=topic, message_encoding="protobuf", metadata={}, schema_id=number + 1
        )
        for number, topic in enumerate([*forms.topics, HOST_TOPIC, LATE_TOPIC])
    ]
    return schemas, made


def end_of_store(reader: store.Reader, sensors: Sequence[str]) -> dict[str, str]:
    """The facts that a store has at the end: rights that were granted, and all counters."""
    return {
        "realtime": json.dumps(reader.realtime()),
        "status": json.dumps(reader.status()),
        "counts": json.dumps(reader.counts()),
        "statuses": json.dumps(dict(zip(sensors, reader.statuses(), strict=True))),
        "reasons": json.dumps(reader.reasons()),
        "clocks": json.dumps({name: reader.clock(at) for at, name in enumerate(sensors)}),
    }


def record_store(
    store_path: str, path: Path, schedule_path: Path, taken_fd: int, options: RecorderOptions
) -> int:
    """Record a run to its end, or until SIGTERM; the exit code. Raises RecordingError, StoreError,
    ScheduleError."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    follower = StoreFollower(store_path, from_first=not options.from_now)
    recorder = Recorder(
        follower,
        path,
        load(schedule_path),
        _say,
        reader=follower.reader,
        first=None if options.from_now else 0,
        options=options,
    )
    signal.signal(signal.SIGUSR1, lambda *_: recorder.mark())
    process.say_ready()
    taken = (lambda: os.eventfd_write(taken_fd, 1)) if taken_fd >= 0 else lambda: None
    recorder.run(lambda: bool(asked), taken)
    end = end_of_store(follower.reader, follower.layout.sensors)
    _say(recorder.close(end | read_scores(options.scores_fd)))
    follower.close()
    return 0 if recorder.is_whole else RecordingError.exit_code


def record_robot(
    endpoint: str,
    path: Path,
    seconds: float | None,
    options: RecorderOptions,
    key: Path | None = None,
) -> int:
    """Record a robot that runs, from now on until its end, for so long, or until ^C; the exit code.
    SIGUSR1 is a mark.

    endpoint, key: as `subscribe` takes them. Raises RecordingError, StoreError, WireError.
    """
    refuse(path)
    asked: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: asked.append(number))
    until_s = math.inf if seconds is None else time.monotonic() + seconds
    try:
        source = subscribe(endpoint, key=key)
    except TimeoutError as error:
        raise StoreError(str(error)) from error
    with source:
        recorder = Recorder(source, path, None, _say, reader=source.store, options=options)
        signal.signal(signal.SIGUSR1, lambda *_: recorder.mark())
        _say(f"{source.layout.robot} by {source.transport}, until it ends or ^C")
        recorder.run(lambda: bool(asked) or time.monotonic() >= until_s, lambda: None)
        end = {} if source.store is None else end_of_store(source.store, source.layout.sensors)
        _say(recorder.close(end))
    return 0 if recorder.is_whole else RecordingError.exit_code


def _say(text: str) -> None:
    """For a person, on stderr; a reader that left wanted nothing."""
    with contextlib.suppress(OSError):
        print(f"recorder: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    store_path, path, schedule_path, taken_fd, options = sys.argv[1:6]
    try:
        wanted = RecorderOptions(**json.loads(options))
        code = record_store(store_path, Path(path), Path(schedule_path), int(taken_fd), wanted)
    except InphaseError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
