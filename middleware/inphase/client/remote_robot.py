"""`inphase.connect`: a robot of a service, its lease, and the cycle from afar."""

import contextlib
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zmq

from inphase.client.clocks import RobotClock
from inphase.client.connection import ServiceConnection
from inphase.client.files import FileUpload, fetch_recording
from inphase.client.kinds import PING, PONG, STOP, STOPPED
from inphase.errors import LeaseRefused, ServiceError, WireError
from inphase.frames import wire
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from inphase.frames.store import Lost
from inphase.frames.subscription import Subscription
from inphase.policy.command_buffer import CommandBuffer
from inphase.remote import COMMAND, END, FRAME, GREETING, HELLO, REFUSED

_HELLO_S = 0.1
_STOP_MS = 2000
_POLL_S = 0.1
_PING_S = 1.0
_KEEPS = 4
"""keep-alives in the time after which a silent holder's robot ramps"""
_KEEP_S = 1.0 / _KEEPS
_KEEP_ANSWER_S = 1.0


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

    def request(self, seconds: float | None = None) -> "RemoteLease":
        """Ask for its lease, for so long at most; it is had once its `state` is `holds`.

        Never waits. Raises LeaseRefused.
        """
        self._connection.ask("lease", robot=self.name, seconds=seconds)
        if self._lease is None or self._lease.is_closed:
            self._lease = RemoteLease(self._connection, self.name)
        return self._lease

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
        function `[task] success` of the schedule does. reset: `person`, or a policy's `policy` and
        `seconds`, with its file as reset_model; without it the schedule's own policy resets.
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
        """How a job stands: state, why, outcomes, recording. Raises ServiceError."""
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

    def take(self) -> "RemoteLease":
        """Take the lease over: for the local operator alone. Raises LeaseRefused."""
        self._connection.ask("take", robot=self.name)
        self._lease = RemoteLease(self._connection, self.name)
        return self._lease

    def arm(self) -> None:
        """Ask to arm the robot again: for the local operator alone. Raises LeaseRefused."""
        self._connection.ask("arm", robot=self.name)

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RemoteLease:
    """The right to drive, asked for or held. A context manager, which gives it back.

    While it is held a thread keeps it alive. Thread: one.
    """

    def __init__(self, connection: ServiceConnection, robot: str) -> None:
        self._connection = connection
        self._robot = robot
        self._standing: dict[str, Any] = {}
        self._over = threading.Event()
        self._keeper: threading.Thread | None = None
        self.ended = ""
        """why it is held no more; empty: it is, or was not yet"""

    def poll(self) -> str:
        """Ask how it stands: `holds`, `waits`, or `none` once it has ended."""
        self._standing = self._connection.ask("standing", robot=self._robot)
        if self.state == "holds" and self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, name="inphase lease", daemon=True)
            self._keeper.start()
        return self.state

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

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._over.is_set()

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

    def drive(self, *, images: bool = True) -> "RemoteDrive":
        """Begin to drive: frames come, and each may be answered. Raises LeaseRefused.

        images: whether images come; commands then say which picture they were made from.
        """
        if self.state != "holds":
            raise LeaseRefused(f"{self._robot} is not held yet; follow the lease until it is")
        return RemoteDrive(self._connection, self._standing, images=images)

    def episode(self, outcome: str) -> int:
        """Begin an episode (`running`), or say the outcome of the newest one, as `mark_episode`;
        its number. Raises LeaseRefused where the lease is not held, or there is none to end."""
        reply = self._connection.ask("episode", robot=self._robot, outcome=outcome, **self._proof)
        return int(reply["episode"])

    @property
    def _proof(self) -> dict[str, Any]:
        return {"lease": self._standing.get("lease", 0), "token": self._standing.get("token", "")}

    def _keep(self) -> None:
        """In a thread: the lease is kept alive until it is given back, or lost."""
        proof = self._proof
        while not self._over.wait(_KEEP_S):
            try:
                self._connection.ask("keep", timeout_s=_KEEP_ANSWER_S, robot=self._robot, **proof)
            except LeaseRefused as error:
                self.ended = str(error)
                return
            except ServiceError:
                continue  # the network is away: the robot's own clock ends it

    def close(self) -> None:
        """Give it back, or wait for it no more."""
        if self._over.is_set():
            return
        self._over.set()
        if self._keeper is not None:
            self._keeper.join()
        with contextlib.suppress(ServiceError):  # it has ended already, or the service has
            if self.state == "holds":
                self._connection.ask(
                    "release", timeout_s=_KEEP_ANSWER_S, robot=self._robot, **self._proof
                )
            else:
                self._connection.ask("leave", robot=self._robot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RemoteDrive:
    """Frames from a robot, and commands to it. A context manager and an iterator. Thread: one."""

    def __init__(
        self, connection: ServiceConnection, standing: dict[str, Any], *, images: bool
    ) -> None:
        self._lease = int(standing["lease"])
        self._images = images
        self._socket = connection.socket(standing["drive"])
        self._hello = msgpack.packb(
            {"lease": self._lease, "token": standing["token"], "images": images}
        )
        self._form: Form | None = None
        self._image_cycle = -1
        self._pinged_s = 0.0
        self.clock = RobotClock()
        """the robot's clock as this host sees it"""
        self.frame: Frame | None = None
        """the newest one"""
        self.description: dict[str, Any] = {}
        """all that the robot says of itself"""
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self, timeout_s: float = 20.0) -> None:
        """Greet the robot until it answers: its recording begins before it can be driven."""
        end_s = time.monotonic() + timeout_s
        why = "nobody answers"
        while time.monotonic() < end_s:
            self._socket.send_multipart([HELLO, self._hello])
            if not self._socket.poll(int(_HELLO_S * 1000)):
                continue
            kind, *content = self._socket.recv_multipart()
            if kind == GREETING:
                description = msgpack.unpackb(content[0])["description"]
                self._take_description(description)
                return
            if kind == REFUSED:
                refused = msgpack.unpackb(content[0])
                why = refused["error"]
                if not refused["early"]:
                    break
                time.sleep(_HELLO_S)
        raise LeaseRefused(f"the robot is not to be driven: {why}")

    def _take_description(self, description: dict[str, Any]) -> None:
        """Raises WireError."""
        try:
            self._form = Form.from_description(description)
            policy = tomllib.loads(description["schedule"]).get("policy", {})
            chunk = int(policy.get("chunk", 1))
        except Exception as error:  # it came over a network
            raise WireError(f"the robot is of another version: {error}") from error
        self.description = description
        actuators = self._form.layout.actuators
        self._buffer = CommandBuffer(actuators, chunk)
        channels = sum(count for _, count, _ in actuators)
        self._shape = [channels] if chunk == 1 else [chunk, channels]

    @property
    def layout(self) -> Layout:
        """Names, dtypes and units of the robot's sensors and actuators."""
        assert self._form is not None
        return self._form.layout

    def next(self, timeout_s: float | None = 5.0) -> Frame:
        """The next frame that is to be answered. Raises TimeoutError, LeaseRefused where the lease
        has ended, and store.Lost where the robot has."""
        assert self._form is not None
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._ping()
            left_s = _PING_S if end_s is None else min(_PING_S, end_s - time.monotonic())
            if left_s < 0:
                raise TimeoutError("no frame came in time: the robot, or the way to it, is away")
            if not self._socket.poll(int(left_s * 1000) + 1):
                continue
            kind, *parts = self._socket.recv_multipart()
            if kind == FRAME:
                self.frame, _ = self._form.read([wire.TOPIC_FRAME, *parts])
                self._note_images(self.frame)
                return self.frame
            self._hear(kind, parts)

    def _note_images(self, frame: Frame) -> None:
        assert self._form is not None
        for sensor in self._form.large:
            sample = frame[self._form.layout.sensors[sensor]]
            if sample.cycle is not None and sample.status in ("FRESH", "HELD"):
                self._image_cycle = max(self._image_cycle, sample.cycle)

    def _ping(self) -> None:
        now_s = time.monotonic()
        if now_s - self._pinged_s > _PING_S:
            self._pinged_s = now_s
            self._socket.send_multipart([PING, time.monotonic_ns().to_bytes(8, "little")])

    def _hear(self, kind: bytes, parts: list[bytes]) -> None:
        if kind == PONG:
            sent, robot_ns = msgpack.unpackb(parts[0])
            self.clock.hear(int.from_bytes(sent, "little"), robot_ns, time.monotonic_ns())
        elif kind == REFUSED:
            raise LeaseRefused(str(msgpack.unpackb(parts[0])["error"]))
        elif kind == END:
            raise Lost("the robot has stopped")

    def act(self, command: Any, frame: Frame | None = None) -> None:
        """Answer a frame, the newest by default.

        command: as a policy's: float64 of shape (channels,) of all actuators in schedule order, in
        SI, or a dict of such by actuator; of shape (chunk, channels) where the schedule has chunks.
        Never waits. Raises ValueError for what is no command.
        """
        frame = frame or self.frame
        assert frame is not None, "no frame has come yet"
        if trouble := self._buffer.fill(command):
            raise ValueError(f"no command ({trouble}): {command!r}; it has the shape {self._shape}")
        content = {
            "lease": self._lease,
            "cycle": frame.cycle,
            "image_cycle": self._image_cycle,
            "shape": self._shape,
            "values": self._buffer.tobytes(),
        }
        with contextlib.suppress(zmq.Again):  # the way is full: a later command is as good
            self._socket.send_multipart([COMMAND, msgpack.packb(content)], zmq.NOBLOCK)

    def __iter__(self) -> Iterator[Frame]:
        with contextlib.suppress(Lost):
            while True:
                yield self.next()

    def close(self) -> None:
        """Drive no more; the robot ramps."""
        with contextlib.suppress(zmq.ZMQError):
            self._socket.send_multipart([END, b""], zmq.NOBLOCK)
        self._socket.close(100)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
