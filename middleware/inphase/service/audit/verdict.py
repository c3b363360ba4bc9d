"""An audit log, checked from its first line on, for a person."""

import json
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from inphase.errors import AccessError
from inphase.service.audit import chain
from inphase.service.audit.chain import Verdict
from inphase.service.audit.log import FILE


class AuditVerdict(NamedTuple):
    """The findings of a check."""

    path: Path
    verdict: Verdict
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
        said.append(f"{self.path}: {head.lines} lines fit; the last has the hash {head.hash}")
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
    path = folder / FILE
    dropped, has_wanted, newest = 0, False, deque[dict[str, Any]](maxlen=last)
    try:
        verdict = chain.read(path)
        for entry in chain.entries(path, verdict.head.lines):
            dropped += entry["count"] if entry["what"] == "dropped" else 0
            has_wanted |= entry["hash"] == wanted
            newest.append(entry)
    except OSError as error:
        raise AccessError(
            f"{path}: cannot be read: {error.strerror}; name the folder of a service that has run"
        ) from error
    return AuditVerdict(path, verdict, dropped, wanted, has_wanted, list(newest))
