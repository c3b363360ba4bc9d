"""The commands about access: keys of users, and the audit log."""

from inphase.command.access import audit, keys

COMMANDS = (audit.audit, keys.keys)
