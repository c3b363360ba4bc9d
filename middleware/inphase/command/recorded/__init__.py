"""The commands that write, read, play and convert recordings."""

from inphase.command.recorded import exporting, files, replaying, reporting

COMMANDS = (
    files.record,
    files.recover,
    replaying.replay,
    reporting.report,
    exporting.export,
)
