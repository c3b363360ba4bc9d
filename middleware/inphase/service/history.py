"""The history of all leases and jobs: whose, when, and with what result. A database, in SQLite."""

import sqlite3
from pathlib import Path
from typing import Any

from inphase.errors import ServiceError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS leases (
    robot TEXT NOT NULL, number INTEGER NOT NULL, user TEXT NOT NULL,
    granted_s REAL NOT NULL, ended_s REAL, why TEXT, recording TEXT, result TEXT,
    PRIMARY KEY (robot, number)
);
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, robot TEXT NOT NULL, user TEXT NOT NULL,
    state TEXT NOT NULL, why TEXT NOT NULL, submitted_s REAL NOT NULL, job BLOB NOT NULL,
    outcomes TEXT NOT NULL, recording TEXT NOT NULL, scores TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS leases_by_user ON leases (user, granted_s);
"""
_WAIT_S = 0.2  # for another process that has the file
_COLUMNS = ("robot", "number", "user", "granted_s", "ended_s", "why", "recording", "result")


class History:
    """The leases so far. Times are seconds of the wall clock. Thread: one.

    path: its file, made where there is none. Raises ServiceError for one that cannot be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._database = sqlite3.connect(path, timeout=_WAIT_S)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")  # no disk is waited for
            self._database.executescript(_SCHEMA)
            self._add_scores()
        except sqlite3.Error as error:
            raise ServiceError(
                f"{path}: {error}; make room where its disk is full; where the file is broken, "
                f"begin anew: mv {path} {path}.broken"
            ) from error

    def _add_scores(self) -> None:
        """A database of before 2026-12 has no scores of jobs."""
        columns = self._database.execute("PRAGMA table_info(jobs)").fetchall()
        if "scores" not in [column[1] for column in columns]:
            self._database.execute("ALTER TABLE jobs ADD COLUMN scores TEXT NOT NULL DEFAULT ''")

    def newest(self, robot: str) -> int:
        """The highest number of a lease of that robot; 0: it had none."""
        (found,) = self._database.execute(
            "SELECT COALESCE(MAX(number), 0) FROM leases WHERE robot = ?", (robot,)
        ).fetchone()
        return int(found)

    def _write(self, statement: str, *values: object) -> str:
        """Write; why not, empty: it is written. A full disk must not hold up a robot."""
        try:
            with self._database:
                self._database.execute(statement, values)
        except sqlite3.Error as error:
            return str(error)
        return ""

    def granted(self, robot: str, number: int, user: str, at_s: float, recording: str) -> str:
        """A lease begins; recording: its file, empty: none is made. Why that is not kept."""
        return self._write(
            "INSERT INTO leases (robot, number, user, granted_s, recording) VALUES (?, ?, ?, ?, ?)",
            robot,
            number,
            user,
            at_s,
            recording,
        )

    def ended(self, robot: str, number: int, at_s: float, why: str, result: str) -> str:
        """A lease has ended; result: of its recording, or of its job. Why that is not kept."""
        return self._write(
            "UPDATE leases SET ended_s = ?, why = ?, result = ? WHERE robot = ? AND number = ?",
            at_s,
            why,
            result,
            robot,
            number,
        )

    def close_open(self, at_s: float) -> None:
        """Leases and jobs that a service left open, which ended without a word."""
        with self._database:
            self._database.execute(
                "UPDATE jobs SET state = 'failed', why = 'the service ended; submit it again' "
                "WHERE state IN ('checking', 'waiting', 'running')"
            )
            self._database.execute(
                "UPDATE leases SET ended_s = ?, why = 'service' WHERE ended_s IS NULL", (at_s,)
            )

    def find(
        self, *, robot: str = "", user: str = "", since_s: float = 0.0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Leases, the newest first, at most `limit`; robot, user: of these alone, empty: of all."""
        rows = self._database.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM leases "
            "WHERE (? = '' OR robot = ?) AND (? = '' OR user = ?) AND granted_s >= ? "
            "ORDER BY granted_s DESC, number DESC LIMIT ?",
            (robot, robot, user, user, since_s, limit),
        )
        return [dict(zip(_COLUMNS, row, strict=True)) for row in rows]

    # ---- jobs ------------------------------------------------------------------------------

    def submitted(self, robot: str, user: str, at_s: float, job: bytes) -> int:
        """A job comes; its number. Raises ServiceError where it cannot be kept."""
        try:
            with self._database:
                made = self._database.execute(
                    "INSERT INTO jobs (robot, user, state, why, submitted_s, job, outcomes, "
                    "recording) VALUES (?, ?, 'checking', '', ?, ?, '', '')",
                    (robot, user, at_s, job),
                )
        except sqlite3.Error as error:
            raise ServiceError(f"the job cannot be kept: {error}; tell the owner") from error
        assert made.lastrowid is not None
        return made.lastrowid

    def tell_job(
        self,
        number: int,
        state: str,
        why: str = "",
        *,
        outcomes: str = "",
        scores: str = "",
        recording: str = "",
    ) -> str:
        """A job stands so now. Why that is not kept, or empty."""
        return self._write(
            "UPDATE jobs SET state = ?, why = ?, outcomes = ?, scores = ?, recording = ? "
            "WHERE number = ?",
            state,
            why,
            outcomes,
            scores,
            recording,
            number,
        )

    def jobs(
        self, *, robot: str = "", user: str = "", number: int = 0, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Jobs, the newest first; robot, user, number: of these alone, empty or 0: of all."""
        names = (
            *("number", "robot", "user", "state", "why", "submitted_s"),
            *("outcomes", "scores", "recording"),
        )
        rows = self._database.execute(
            f"SELECT {', '.join(names)} FROM jobs WHERE (? = '' OR robot = ?) "
            "AND (? = '' OR user = ?) AND (? = 0 OR number = ?) ORDER BY number DESC LIMIT ?",
            (robot, robot, user, user, number, number, limit),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Close it."""
        self._database.close()
