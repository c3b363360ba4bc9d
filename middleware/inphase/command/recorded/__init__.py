"""The commands that write, read and play recordings."""

from inphase.command.recorded import files, replaying, reporting

COMMANDS = (
    files.record,
    files.recover,
    replaying.replay,
    reporting.report,
)
