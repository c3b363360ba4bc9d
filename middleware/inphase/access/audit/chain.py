"""The lines of an audit log: each has the hash of the one before it, so that a change is found.

A line is a JSON object, written in one way alone:

    {"n":7,"at":"2026-11-30T22:15:04.120331Z","what":"key refused",...,"hash":"<64 hex digits>"}

`n` counts from 0. `hash` is the SHA-256 of the hash of the line before (64 zeros for line 0) and of
the line up to the comma before "hash", as bytes. A file that goes on with another one's chain
begins with a line whose `what` is "continued": `before` is the hash of the line before it.
"""

import datetime
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

FIRST = "0" * 64
LINE_BYTES = 65_536
"""of the longest line: its facts are bounded"""
_TAIL = b',"hash":"%s"}'
_TAIL_BYTES = len(_TAIL) - 2 + 64
_HASH = re.compile("[0-9a-f]{64}")
_TEXT_MAX = 300  # letters of a fact; JSON may need twelve bytes for each
_FACTS_MAX = 16
OWN = frozenset({"n", "at", "what", "hash"})
"""names that no fact has"""
CONTINUED = "continued"
"""`what` of the first line of a file that goes on with another's chain"""


class ChainHead(NamedTuple):
    """The end of a chain."""

    lines: int = 0
    hash: str = FIRST


class Break(NamedTuple):
    """The first line that does not fit."""

    line: int
    """from 1, as an editor counts"""
    offset: int
    """bytes before it"""
    reason: str


class Verdict(NamedTuple):
    """A log that was read from its first line on."""

    head: ChainHead
    """after the last line that fits"""
    size: int
    """bytes of the lines that fit"""
    trouble: Break | None
    """None: all fit"""
    is_cut: bool
    """the rest is the beginning of one line, as a crash leaves it"""


def line_of(
    head: ChainHead, at: datetime.datetime, what: str, facts: Mapping[str, object]
) -> bytes:
    """The next line, with its end, and facts that are bounded plain values."""
    entry: dict[str, Any] = {"n": head.lines, "at": _time(at), "what": _plain(what)}
    for name, value in list(facts.items())[:_FACTS_MAX]:
        entry[name] = _plain(value)
    body = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return body + _TAIL % _hash(head.hash, body).encode() + b"\n"


def after(head: ChainHead, line: bytes) -> ChainHead:
    """The head that a line made for this one gives."""
    return ChainHead(head.lines + 1, line[-2 - 65 : -3].decode())


def beginning(path: Path) -> ChainHead:
    """The head that the first line of a file says that it follows. Raises OSError."""
    with path.open("rb") as file:
        line = file.readline(LINE_BYTES + 1)
    try:
        entry = json.loads(line)
        number, before = int(entry["n"]), entry["before"]
        goes_on = entry["what"] == CONTINUED and _HASH.fullmatch(before) and number >= 0
    except (ValueError, KeyError, TypeError):
        return ChainHead()
    return ChainHead(number, before) if goes_on else ChainHead()


def read(path: Path, head: ChainHead | None = None) -> Verdict:
    """Check every line of a file against the one before. head: of the lines before the file; None:
    as its first line says. Raises OSError."""
    head, size, number = beginning(path) if head is None else head, 0, 0
    with path.open("rb") as file:
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            reason = _misfit(head, line)
            if reason:
                rest_is_cut = not line.endswith(b"\n") and not file.read(1)
                return Verdict(head, size, Break(number, size, reason), rest_is_cut)
            head, size = after(head, line), size + len(line)
    return Verdict(head, size, None, False)


def _misfit(head: ChainHead, line: bytes) -> str:
    """The reason why a line does not follow; "" for one that does."""
    if len(line) > LINE_BYTES:
        return f"more than {LINE_BYTES} bytes"
    if not line.endswith(b"\n"):
        return "it has no end"
    body = line[: -_TAIL_BYTES - 1]
    if line != body + _TAIL % _hash(head.hash, body).encode() + b"\n":
        return "its hash is not that of its text and of the line before"
    if not body.startswith(b'{"n":%d,' % head.lines):
        return f"its number is not {head.lines}"
    return ""


def entries(path: Path, size: int) -> Iterator[dict[str, Any]]:
    """The lines in so many first bytes of a file, which fit, as plain values. Raises OSError."""
    with path.open("rb") as file:
        while size and (line := file.readline()):
            size -= len(line)
            yield json.loads(line)


def _hash(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()


def _plain(value: object) -> object:
    """A value that JSON has, of bounded size."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    text = str(value)
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "..."


def _time(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
