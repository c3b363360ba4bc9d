"""Making a cut recording whole: its messages in a new file, with chunks, indices and an end."""

import json
import mmap
import os
import struct
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from mcap import records

from inphase.errors import RecordingError
from inphase.recording import facts
from inphase.recording.chunk import MESSAGE_HEAD, ChunkBuilder
from inphase.recording.mcap_file import McapFile
from inphase.recording.mcap_scan import FileScan, mapped, scan

_HEAD = struct.Struct("<QHIQ")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Recovery:
    """The outcome."""

    path: Path
    messages: dict[str, int]
    """by topic"""
    lost: list[str]
    """the losses, for a person"""


def is_whole(found: FileScan) -> bool:
    """True for a file that needs no recovery."""
    return found.has_end and not found.damaged


def recover(path: Path, output: Path) -> Recovery | None:
    """Write all that can be read of a file into a new one. Any MCAP file without compression will
    do, also of another recorder. None: it is whole, and nothing is written.

    Raises RecordingError for what is no MCAP file, for one without any channel, and where `output`
    is there.
    """
    with mapped(path) as memory:
        try:
            found = scan(memory, checks=True)
        except ValueError as error:
            raise RecordingError(f"{path} is no recording: {error}") from error
        if is_whole(found):
            return None
        known = _known_channels(found)
        if not known:
            raise RecordingError(f"{path} was cut before its channels: nothing can be recovered")
        return _write(path, memory, found, known, output)


def _known_channels(found: FileScan) -> dict[int, records.Channel]:
    """Those whose schema is there too."""
    return {
        number: channel
        for number, channel in found.channels.items()
        if channel.schema_id in found.schemas or channel.schema_id == 0
    }


def _write(
    path: Path,
    memory: mmap.mmap,
    found: FileScan,
    known: dict[int, records.Channel],
    output: Path,
) -> Recovery:
    profile = "" if found.header is None else found.header.profile
    library = f"inphase {metadata.version('inphase')}, recovered"
    file = McapFile(
        output,
        library,
        list(found.schemas.values()),
        list(known.values()),
        [one for one in found.metadata if one.name != facts.END],
        profile=profile,
    )
    lost = list(found.damaged)
    try:
        _copy(memory, found, known, file)
        topics = {channel.topic: file.counts[number] for number, channel in known.items()}
        file.close(records.Metadata(facts.END, _end(path, topics, lost)))
    except BaseException:
        output.unlink(missing_ok=True)
        raise
    if unknown := set(found.messages) - set(known):
        count = sum(len(found.places(channel)) for channel in unknown)
        lost.append(f"{count} messages of channels whose definition is not there")
    return Recovery(output, topics, lost)


def _copy(
    memory: mmap.mmap, found: FileScan, known: dict[int, records.Channel], file: McapFile
) -> None:
    """All messages, in the order of the file. Raises RecordingError where there is no room."""
    places = [found.places(channel) for channel in known]
    order = np.sort(np.concatenate(places)) if places else np.zeros(0, np.int64)
    chunk = ChunkBuilder()
    for at in order.tolist():
        size, channel, sequence, log_time = _HEAD.unpack_from(memory, at + 1)
        data = memory[at + MESSAGE_HEAD : at + 9 + size]
        chunk.add(channel, sequence, log_time, data)
        if chunk.size >= _CHUNK_BYTES:
            _flush(chunk, file)
    _flush(chunk, file)


def _flush(gathered: ChunkBuilder, file: McapFile) -> None:
    chunk = gathered.take()
    if chunk is not None and not file.write(chunk):
        raise RecordingError(f"no room for {file.path}; nothing was kept of it")


def _end(path: Path, topics: dict[str, int], lost: list[str]) -> dict[str, str]:
    return {
        "state": facts.INCOMPLETE,
        "frames": str(topics.get("/frame", 0)),
        "recovered_from": os.fspath(path.name),
        "recovered": json.dumps(lost),
    }
