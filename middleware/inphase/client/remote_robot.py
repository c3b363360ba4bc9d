"""`inphase.connect`: a robot of a service, its lease and its jobs."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from inphase.client.camera_view import Images
from inphase.client.connection import ServiceConnection
from inphase.client.files import FileUpload, fetch_recording
from inphase.client.kinds import STOP, STOPPED
from inphase.client.remote_drive import RemoteDrive
from inphase.client.remote_lease import RemoteLease
from inphase.errors import LeaseRefused, ServiceError
from inphase.frames.subscription import Subscription

_STOP_MS = 2000
_ARM_S = 10.0
_LOOK_S = 0.05


def connect(address: str = "", *, robot: str = "", key: str | Path | None = None) -> "RemoteRobot":
    """A robot that a service keeps up; a context manager.

    address: of the service, empty: this user's on this host. robot: its name; empty: the only one.
    key: for a `tcp://` address the file that the service's owner made by `inphase keys create`.
    Raises ServiceError where nobody answers, or there is no such robot; AccessError for the file.
    """
    return RemoteRobot(ServiceConnection(address, key), robot)


class RemoteRobot:
    """A served robot. `close` gives its lease back. Thread: one, but for `stop`, which is any's."""

    def __init__(self, connection: ServiceConnection, robot: str) -> None:
        self._connection = connection
        try:
            found = connection.ask("robots")["robots"]
        except BaseException:
            connection.close()
            raise
        names = [one["robot"] for one in found]
        if robot not in names and not (robot == "" and len(names) == 1):
            connection.close()
            raise ServiceError(
                f"{connection.address} serves no robot {robot!r}; it serves {', '.join(names)}"
            )
        self.name = robot or names[0]
        """of the robot"""
        ours = next(one for one in found if one["robot"] == self.name)
        self._stop_address, self._frames_address = ours["stop"], ours["frames"]
        self._lease: RemoteLease | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """Its state, cycle, holder, queue and reservations, as the service tells them now."""
        robots = self._connection.ask("robots")["robots"]
        return next(one for one in robots if one["robot"] == self.name)

    def request(self, seconds: float | None = None) -> RemoteLease:
        """Ask for its lease, for so long at most; it is had once its `state` is `holds`.

        Never waits. Raises LeaseRefused.
        """
        self._connection.ask("lease", robot=self.name, seconds=seconds)
        if self._lease is None or self._lease.is_closed:
            self._lease = RemoteLease(self._connection, self.name)
        return self._lease

    def reserve(self, start: datetime, end: datetime) -> int:
        """Reserve a span of its calendar; the number of the reservation.

        From `start` on the lease is this user's alone once it asks for it. Times without a zone are
        local ones. Raises LeaseRefused.
        """
        span = {"start_s": start.timestamp(), "end_s": end.timestamp()}
        return int(self._connection.ask("reserve", robot=self.name, **span)["number"])

    def cancel(self, number: int) -> None:
        """Give a reservation back. Raises LeaseRefused where it is another's."""
        self._connection.ask("cancel", robot=self.name, number=number)

    def submit(
        self,
        model: Path,
        *,
        policy: dict[str, Any] | None = None,
        episodes: int = 1,
        seconds: float = 10.0,
        success: str = "nobody",
        reset: str | dict[str, Any] = "nobody",
        reset_model: Path | None = None,
        watch: Callable[[int, int], None] = lambda here, size: None,
    ) -> int:
        """Submit a job: that model runs on the robot's side, unattended. The number of the job.

        model: an ONNX or safetensors file, which is sent unless it is there. policy: how it is
        bound, the keys of `[policy]` that are a job's: inputs, outputs, normalise, images. seconds:
        of each episode. success: `person` where one says how an episode ended, `task` where the
        schedule does, by `[task] success` or `classifier`. reset: `person`, or a policy's `policy`
        and `seconds`, with its file as reset_model; without it the schedule's own policy resets.
        watch: is told how many bytes of how many are there. Raises ServiceError, OSError.
        """
        upload = FileUpload(self._connection, self.name, model)
        upload.send(watch)
        if reset_model is not None:
            second = FileUpload(self._connection, self.name, reset_model)
            second.send(watch)
            words = reset if isinstance(reset, dict) else {}
            reset = {**words, "sha256": second.sha256, "ending": reset_model.suffix}
        job = {
            "sha256": upload.sha256,
            "ending": model.suffix,
            "policy": policy or {},
            "episodes": episodes,
            "seconds": seconds,
            "success": success,
            "reset": reset,
        }
        return int(self._connection.ask("submit", robot=self.name, job=job)["number"])

    def job(self, number: int) -> dict[str, Any]:
        """How a job stands: state, why, outcomes, scores, recording. Raises ServiceError."""
        found = self._connection.ask("jobs", robot=self.name, number=number)["jobs"]
        if not found:
            raise ServiceError(f"{self.name} has no job {number}")
        return dict(found[0])

    def jobs(self, user: str = "") -> list[dict[str, Any]]:
        """Its jobs, the newest first; of one user, or of all."""
        return list(self._connection.ask("jobs", robot=self.name, user=user)["jobs"])

    def cancel_job(self, number: int) -> None:
        """Take a job back, also while it runs. Raises LeaseRefused where it is another's."""
        self._connection.ask("cancel_job", robot=self.name, number=number)

    def mark(self, number: int, outcome: str) -> None:
        """Say how the present episode of a job ended: `success`, `failure` or `discarded`."""
        self._connection.ask("mark", robot=self.name, number=number, outcome=outcome)

    def reset(self, job: int) -> None:
        """Say that a person has reset the robot: the next episode of that job may begin."""
        self._connection.ask("reset", robot=self.name, number=job)

    def fetch(
        self,
        lease: int,
        path: Path,
        watch: Callable[[int, int], None] = lambda here, size: None,
    ) -> None:
        """Fetch the recording of a lease into a file that is made. watch: as in `submit`.

        Raises ServiceError where there is none, FileExistsError, OSError.
        """
        fetch_recording(self._connection, self.name, lease, path, watch)

    def watch(self, timeout_s: float | None = 5.0) -> Subscription:
        """Follow its frames, whoever drives it; as `inphase.subscribe`.

        timeout_s: the longest wait for each frame. Raises TimeoutError, WireError, StoreError.
        """
        return self._connection.subscribe(self._frames_address, timeout_s)

    def take(self) -> RemoteLease:
        """Take the lease over: for the local operator alone. Raises LeaseRefused."""
        self._connection.ask("take", robot=self.name)
        if self._lease is not None:
            self._lease.let_go()  # not given back: the same lease may have been taken
        self._lease = RemoteLease(self._connection, self.name)
        return self._lease

    def correct(self, *, images: Images = True) -> RemoteDrive:
        """Take the person's seat beside the client or the job that drives now: for the local
        operator alone.

        Raises LeaseRefused where nobody has the lease, or for another user.
        """
        facts = self.facts
        standing = {"lease": facts["lease"], "token": "", "drive": facts["drive"]}
        if not facts["lease"]:
            raise LeaseRefused(f"nobody drives {self.name}; drive by a lease of your own")
        return RemoteDrive(self._connection, standing, images=images, person=True)

    def arm(self) -> None:
        """Arm the robot again: for the local operator alone. Raises LeaseRefused, also where it
        cannot be armed, and ServiceError where it does not say in time."""
        number = self._connection.ask("arm", robot=self.name)["number"]
        end_s = time.monotonic() + _ARM_S
        while (armed := self.facts["armed"])["number"] < number:
            if time.monotonic() > end_s:
                raise ServiceError(
                    f"{self.name} has not said within {_ARM_S:.0f} s if it is armed; see how it "
                    f"stands: inphase lease --show"
                )
            time.sleep(_LOOK_S)
        if armed["trouble"]:
            raise LeaseRefused(f"{self.name}: {armed['trouble']}")

    def stop(self) -> None:
        """Emergency stop, on the lane that stops have alone. Raises ServiceError where the service
        does not say that it was carried out."""
        socket = self._connection.socket(self._stop_address)
        try:
            socket.send_multipart([STOP, self.name.encode()])
            if not socket.poll(_STOP_MS) or socket.recv_multipart()[0] != STOPPED:
                raise ServiceError(f"the service does not say that {self.name} is stopped")
        finally:
            socket.close()

    def close(self) -> None:
        """Give the lease back, and end the connection."""
        if self._lease is not None:
            self._lease.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
