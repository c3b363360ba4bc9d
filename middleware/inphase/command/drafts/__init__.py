"""The command that drafts drivers, schedules, policies and projects."""

from inphase.command.drafts import new

COMMANDS = (new.new,)
