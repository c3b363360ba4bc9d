"""The socket of a remote policy, in the policy's process."""

import contextlib
from typing import Any

from inphase.frames import store
from inphase.policy.turn import PolicyCall
from inphase.schedule import Schedule


class RemoteSocket:
    """The socket of a remote policy, opened before this process gives up making sockets.

    Without such a policy in the schedule it does nothing. Raises ScheduleError.
    """

    def __init__(self, described: Schedule, store_path: str) -> None:
        self._described = described
        self._listener: Any = None
        self._reader: store.Reader | None = None
        if described.policy is not None and described.policy.remote is not None:
            from inphase.policy import remote_listener  # ZeroMQ, which no other policy needs

            self._listener = remote_listener.listen(described)
            self._reader = store.Reader(store_path)
        self._remote: Any = None

    def meet(self) -> PolicyCall | None:
        """The remote policy, once it is there. Raises ScheduleError."""
        if self._listener is None or self._reader is None:
            return None
        from inphase.policy import remote_policy

        self._remote = remote_policy.RemotePolicy(self._described, self._reader, self._listener)
        met: PolicyCall = self._remote
        return met

    def close(self) -> None:
        """Say goodbye."""
        if self._remote is not None:
            self._remote.close()
        elif self._listener is not None:
            self._listener.close()
        if self._listener is not None:
            with contextlib.suppress(PermissionError):  # then it is whoever started this process's
                remove_socket(self._described)


def remove_socket(described: Schedule) -> None:
    """Remove the file of a remote policy's address, which its process may not."""
    if described.policy is not None and described.policy.remote is not None:
        from inphase.policy import remote_listener

        remote_listener.remove_left(described.policy.remote)
