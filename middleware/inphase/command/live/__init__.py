"""The live view of a run, and the commands that follow a robot while it runs."""

from inphase.command.live import following, showing

COMMANDS = (
    following.echo,
    following.episode,
    following.top,
    showing.view,
)
