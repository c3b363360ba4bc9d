"""The commands that write, read, play and convert recordings."""

from inphase.command.recorded import (
    diffing,
    exporting,
    files,
    replaying,
    reporting,
    scoring,
    timing,
)

COMMANDS = (
    files.record,
    files.recover,
    replaying.replay,
    reporting.report,
    scoring.score,
    exporting.export,
    timing.fit,
    diffing.diff,
)
