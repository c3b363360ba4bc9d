"""The lease of a served robot: asked for, followed, kept alive, given back."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

from inphase.client.camera_view import Images
from inphase.client.connection import ServiceConnection
from inphase.client.remote_drive import RemoteDrive
from inphase.errors import LeaseRefused, ServiceError

_POLL_S = 0.1
_KEEPS = 4
"""keep-alives in the time after which a silent holder's robot ramps"""
_KEEP_S = 1.0 / _KEEPS
_KEEP_ANSWER_S = 1.0


class RemoteLease:
    """The right to drive, asked for or held. A context manager, which gives it back.

    While it is held a thread keeps it alive. Where it has ended, and its user asks again, it is the
    next one. Thread: one.
    """

    def __init__(self, connection: ServiceConnection, robot: str) -> None:
        self._connection = connection
        self._robot = robot
        self._standing: dict[str, Any] = {}
        self._keeper: LeaseKeeper | None = None
        self.is_closed = False
        """true after `close`, and once the local operator's `take` has replaced it"""

    @property
    def ended(self) -> str:
        """Why it is held no more; empty: it is, or was not yet."""
        return self._keeper.ended if self._keeper is not None else ""

    def poll(self) -> str:
        """Ask how it stands: `holds`, `waits`, or `none` once it has ended."""
        self._standing = self._connection.ask("standing", robot=self._robot)
        kept = self._keeper.lease if self._keeper is not None else 0
        if self.state == "holds" and kept != self.number and not self.is_closed:
            self._end_keeper()
            self._keeper = LeaseKeeper(self._connection, self._robot, self._proof)
        return self.state

    def let_go(self) -> None:
        """Keep it alive no longer, without giving it back."""
        self.is_closed = True
        self._end_keeper()

    def _end_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.close()

    @property
    def state(self) -> str:
        """At the last `poll`."""
        return str(self._standing.get("state", "waits"))

    @property
    def number(self) -> int:
        """Of the lease that is held; 0: none."""
        return int(self._standing.get("lease", 0))

    @property
    def position(self) -> int:
        """In the queue at the last `poll`, from 1 on; 0: it does not wait."""
        return int(self._standing.get("position", 0))

    @property
    def wait_s(self) -> float:
        """An estimate at the last `poll`: if all before hold theirs to the end."""
        return float(self._standing.get("wait_s", 0.0))

    def follow(self, every_s: float = _POLL_S) -> Iterator[str]:
        """How it stands, again and again, until it is held. Raises LeaseRefused where it ended."""
        while True:
            state = self.poll()
            if state == "none":
                raise LeaseRefused(f"the lease of {self._robot} has ended; ask for it again")
            yield state
            if state == "holds":
                return
            time.sleep(every_s)

    def wait(self, timeout_s: float) -> Self:
        """Follow it until it is held. Raises TimeoutError, which says how it stands."""
        end_s = time.monotonic() + timeout_s
        for _ in self.follow():
            if self.state != "holds" and time.monotonic() > end_s:
                holder = self._standing.get("holder")
                raise TimeoutError(
                    f"{self._robot} is held by {holder}; place {self.position} in the queue, "
                    f"about {self.wait_s:.0f} s"
                )
        return self

    def drive(
        self,
        *,
        images: Images = True,
        person: bool = False,
        inference_s: float = 0.0,
        adapt: bool = False,
    ) -> RemoteDrive:
        """Begin to drive: frames come, and each may be answered.

        images: True: whole images of all cameras; False: none; a map of camera to `size`, `crop`,
        `every` and `codec`: those, and no others. See CameraView. Commands then say which picture
        they were made from. person: take the person's seat, beside the client that drives: while
        commands come from there, they are followed in place of the client's. inference_s: how long
        the policy takes; `RemoteDrive.measure` measures it. adapt: it is answered at a slower pace,
        and with later parts of chunks, where else the answers would be too late.

        Raises LeaseRefused, and ServiceError where the answers would be too late.
        """
        if self.state != "holds":
            raise LeaseRefused(f"{self._robot} is not held yet; follow the lease until it is")
        return RemoteDrive(
            self._connection,
            self._standing,
            images=images,
            person=person,
            inference_s=inference_s,
            adapt=adapt,
        )

    def episode(self, outcome: str) -> int:
        """Begin an episode (`running`), or say the outcome of the newest one, as `mark_episode`;
        its number. Raises LeaseRefused where the lease is not held, or there is none to end."""
        reply = self._connection.ask("episode", robot=self._robot, outcome=outcome, **self._proof)
        return int(reply["episode"])

    @property
    def _proof(self) -> dict[str, Any]:
        return {"lease": self._standing.get("lease", 0), "token": self._standing.get("token", "")}

    def close(self) -> None:
        """Give it back, or wait for it no more."""
        if self.is_closed:
            return
        self.let_go()
        with contextlib.suppress(ServiceError):  # it has ended already, or the service has
            if self.state == "holds":
                self._connection.ask(
                    "release", timeout_s=_KEEP_ANSWER_S, robot=self._robot, **self._proof
                )
            else:
                self._connection.ask("leave", robot=self._robot)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LeaseKeeper:
    """Keeps one lease alive, until it is lost, or closed. It has a thread and a connection of its
    own: what its user asks beside it does not hold it up."""

    def __init__(self, connection: ServiceConnection, robot: str, proof: dict[str, Any]) -> None:
        self._connection = connection.another()
        self.kept = 0
        """keep-alives that were answered"""
        self._robot = robot
        self._proof = proof
        self.lease = int(proof["lease"])
        """its number"""
        self.ended = ""
        """why it is lost; empty: it is not"""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inphase lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._keep()
        finally:
            self._connection.close()

    def _keep(self) -> None:
        while not self._over.wait(_KEEP_S):
            try:
                self._connection.ask(
                    "keep", timeout_s=_KEEP_ANSWER_S, robot=self._robot, **self._proof
                )
                self.kept += 1
            except LeaseRefused as error:
                self.ended = str(error)
                return
            except ServiceError:
                continue  # the network is away: the robot's own clock ends it

    def close(self) -> None:
        """Keep it alive no longer; twice does no harm."""
        self._over.set()
        self._thread.join()
