"""An audit log, checked from its first line on, for a person."""

import json
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from inphase.access.audit import chain, files
from inphase.access.audit.chain import Break, Verdict
from inphase.errors import AccessError


class AuditVerdict(NamedTuple):
    """The findings of a check."""

    path: Path
    """the newest file, or the one that does not fit"""
    verdict: Verdict
    first: int
    """the number of the oldest line that is there: older ones were dropped with their files"""
    dropped: int
    """entries that the log says it has lost"""
    wanted: str | None
    """the hash of a line that was asked for"""
    has_wanted: bool
    last: list[dict[str, Any]]
    """the last lines that fit"""

    @property
    def exit_code(self) -> int:
        """0, or that of AccessError."""
        fits = self.verdict.trouble is None and (self.wanted is None or self.has_wanted)
        return 0 if fits else AccessError.exit_code

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        trouble = self.verdict.trouble
        return {
            "path": str(self.path),
            "lines": self.verdict.head.lines,
            "first": self.first,
            "hash": self.verdict.head.hash,
            "dropped": self.dropped,
            "trouble": None if trouble is None else trouble._asdict(),
            "cut": self.verdict.is_cut,
            "has": None if self.wanted is None else self.has_wanted,
            "last": self.last,
        }

    def lines(self) -> list[str]:
        """For a person."""
        head, trouble = self.verdict.head, self.verdict.trouble
        said = [json.dumps(entry) for entry in self.last]
        count = head.lines - self.first
        said.append(f"{self.path}: {count} lines fit; the last has the hash {head.hash}")
        if self.first:
            said.append(f"{self.first} older lines were dropped with their files, as the log grew")
        if self.dropped:
            said.append(f"the log says that {self.dropped} entries were lost: a disk that was slow")
        if trouble is not None and self.verdict.is_cut:
            said.append(f"line {trouble.line} is cut, as a crash leaves it")
        elif trouble is not None:
            said.append(
                f"line {trouble.line} (byte {trouble.offset}) does not fit: {trouble.reason}"
            )
        if self.wanted is not None:
            is_there = "is there" if self.has_wanted else "is not there: lines were taken away"
            said.append(f"the line with the hash {self.wanted} {is_there}")
        return said


def of(folder: Path, wanted: str | None = None, last: int = 0) -> AuditVerdict:
    """Check the log of a service's folder. wanted: the hash of a line that has to be in it.

    Raises AccessError where there is none.
    """
    dropped, has_wanted, newest = 0, False, deque[dict[str, Any]](maxlen=last)
    path = folder / files.FILE
    try:
        paths = files.all_of(folder) or [path]
        first = chain.beginning(paths[0]).lines
        head, kept_from = None, 0
        for path in paths:
            verdict = chain.read(path, head)
            head = verdict.head
            for entry in chain.entries(path, verdict.size):
                dropped += entry["count"] if entry["what"] == "dropped" else 0
                kept_from = entry["kept_from"] if entry["what"] == chain.CONTINUED else kept_from
                has_wanted |= entry["hash"] == wanted
                newest.append(entry)
            if verdict.trouble is not None:
                verdict = verdict._replace(is_cut=verdict.is_cut and path == paths[-1])
                break
    except OSError as error:
        raise AccessError(
            f"{path}: cannot be read: {error.strerror}; name the folder of a service that has run"
        ) from error
    if verdict.trouble is None and first > kept_from:
        reason = f"the lines {kept_from} to {first - 1} are gone, and the log did not drop them"
        verdict, path = verdict._replace(trouble=Break(1, 0, reason)), paths[0]
    return AuditVerdict(path, verdict, first, dropped, wanted, has_wanted, list(newest))
