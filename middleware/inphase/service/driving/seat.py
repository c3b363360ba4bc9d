"""A seat: one connection that is sent frames, and whose commands may drive the robot."""

from typing import Any, NamedTuple

import msgspec

from inphase.client.camera_view import CameraView
from inphase.frames.message import Form
from inphase.frames.sending import Writer
from inphase.frames.store import Reader
from inphase.schedule import Schedule
from inphase.service.doors import Caller
from inphase.service.driving.command_check import CommandCheck
from inphase.service.driving.sent_camera import SentCamera, sent_cameras

CLIENT, PERSON = "client", "person"
"""the seats of a lease, by the word of DROVE for who sits there"""


class DriveHello(msgspec.Struct, frozen=True):
    """A client's first message: the lease under which it drives, and what it wants to see."""

    lease: int
    token: str = ""
    images: bool | dict[str, CameraView] = True
    """whole images of all cameras, none, or by camera the views"""
    person: bool = False
    """it wants the person's seat"""


class DrivePeer(NamedTuple):
    """One connection of a client."""

    socket: Any
    identity: bytes


class DriveSeat:
    """One client, from its hello on. Thread: one. Raises ServiceError for views that there are not.

    caller: who it is. form: of the robot's frames, in which the reader follows them.
    """

    def __init__(
        self,
        peer: DrivePeer,
        caller: Caller,
        hello: DriveHello,
        *,
        described: Schedule,
        reader: Reader,
        form: Form,
    ) -> None:
        self.peer = peer
        self.caller = caller
        self.word = PERSON if hello.person else CLIENT
        """who drives by its commands, one of DROVE"""
        cameras: list[SentCamera] = []
        if not isinstance(hello.images, bool):
            max_age_ns = {name: one.max_age_ns for name, one in described.sensor.items()}
            cameras = sent_cameras(form, hello.images, max_age_ns)
        self.cameras = cameras
        """those with views of their own"""
        self._of_sensor = {camera.sensor: camera for camera in cameras}
        sent = form.large if hello.images is True else [*self._of_sensor]
        self._reader = reader
        self._form = form
        self._writer = Writer(reader, form, sent)
        self._number = -1
        self.check = CommandCheck(described, form, sent)

    def write(self) -> list[Any]:
        """The parts of the message of the reader's present frame, behind its kind."""
        writer, record = self._writer, self._reader.record
        self._number += 1
        for sample in writer.large:
            if camera := self._of_sensor.get(sample.sensor):
                sample.is_due = camera.is_due(record)
        writer.write(self._number)
        parts: dict[int, Any] = dict.fromkeys(self._form.large, b"")
        earlier = {}
        for sample in writer.large:
            camera = self._of_sensor.get(sample.sensor)
            if sample.here:
                parts[sample.sensor] = camera.part(sample.buffer) if camera else sample.buffer
            elif camera and (row := camera.row(record)):
                earlier[sample.sensor] = row
        if earlier:
            writer.name_earlier(self._number, earlier)
        return [writer.header, writer.packed, *parts.values()]

    def sent(self) -> None:
        """That message was sent."""
        for sample in self._writer.large:
            if sample.here and (camera := self._of_sensor.get(sample.sensor)):
                camera.sent()
        self._writer.sent()
