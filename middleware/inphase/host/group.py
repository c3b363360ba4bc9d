"""The group of users with whom a robot is shared on this host."""

import grp

from inphase.schedule import Schedule


def group_of(described: Schedule) -> int | None:
    """The number of the group that may use what is shared; None: the user alone may.

    Raises ScheduleError for a group that this machine does not have.
    """
    name = described.store.group
    try:
        return None if name is None else grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise described.error(
            "store.group",
            f"no such group on this machine, got {name!r}; name another, or make it with groupadd",
        ) from error
