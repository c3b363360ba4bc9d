"""Follows a robot's store for the page, at its own pace and only while somebody looks."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

import msgspec

from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.store_follower import StoreFollower
from inphase.web.camera_images import CameraImages
from inphase.web.cycle_times import CycleTimes
from inphase.web.frame_words import FrameWords, counted, page_of, tables_of
from inphase.web.robot_model import RobotModel, model_file, moved_joints

RATE_HZ = 30
_COUNTS_S = 0.5
_WAIT_S = 0.1
_PAST_MAX = 512  # frames between two that are sent whose times are looked at


class Offer(Protocol):
    """Takes a message of a kind."""

    def __call__(self, kind: str, message: str | bytes, keep: bool = False) -> None: ...


class Follower:
    """Makes the messages of one run. `look`, then `follow`, again and again; `close` ends it.

    Thread: one at a time, but `scene` and `close`. Raises StoreError.
    """

    def __init__(self, store_path: str, folder: Path) -> None:
        self._source = StoreFollower(store_path)
        self._words = FrameWords(self._source.description, self._source.layout)
        self._images = CameraImages(self._words.images)
        self._times = CycleTimes(self._source.layout)
        self._encode = msgspec.json.Encoder()
        self._offer: Offer | None = None
        self._number = -1
        self._counts_s = 0.0
        self._is_closed = False
        tables = tables_of(self._source.description)
        page = page_of(tables)
        self._model_path = model_file(page, tables, folder)
        self._keyframe = page.keyframe or tables.get("world", {}).get("keyframe")
        self._joints = moved_joints(page, tables)
        self._model: RobotModel | None = None
        self._scene: Future[bytes | None] | None = None

    @property
    def robot(self) -> str:
        """Its name."""
        return self._source.layout.robot

    def description(self) -> str:
        """The message that comes first."""
        sensors = self._source.layout.sensors
        moving = {field.partition(".")[0] for field in self._joints}
        model = [index for index, name in enumerate(sensors) if name in moving]
        return self._text(self._words.describe(None if self._model_path is None else model))

    # ---- the model -----------------------------------------------------------------------------

    def scene(self) -> "Future[bytes | None]":
        """The robot's model for a browser, compiled when it is first asked for; None: none can be
        had. Thread: the event loop's."""
        if self._scene is None:
            self._scene = Future()
            threading.Thread(target=self._compile, name="model", daemon=True).start()
        return self._scene

    def _compile(self) -> None:
        assert self._scene is not None
        scene = None
        if self._model_path is not None:
            try:
                model = RobotModel(self._model_path, self._keyframe, self._joints)
                scene = model.scene()
                self._model = model
            except Exception as error:  # of a file of the user's, and of the package that reads it
                print(f"page: no 3-D picture of the robot: {error}", flush=True)
        self._scene.set_result(scene)

    # ---- frames --------------------------------------------------------------------------------

    def look(self, offer: Offer) -> None:
        """Messages go here from now on."""
        self._offer = offer

    def follow(self, is_wanted: Callable[[], bool]) -> bool:
        """Offer messages while they are wanted. True: the run is over."""
        next_s = time.monotonic()
        while is_wanted() and not self._is_closed:
            time.sleep(max(0.0, next_s - time.monotonic()))
            try:
                frame = self._source.next(_WAIT_S, newest=True)
            except TimeoutError:
                continue
            except store.Lost:
                return True
            self._show(frame)
            next_s = max(next_s + 1 / RATE_HZ, time.monotonic())
        self._number = -1  # a time nobody looked at is not counted
        return False

    def _show(self, frame: Frame) -> None:
        assert self._offer is not None
        self._take_times(frame)
        said = self._words.say(frame)
        said["worst_us"] = self._times.worst()
        if self._model is not None:
            said["poses"] = self._model.poses(frame)
        self._offer("frame", self._text(said))
        for sensor, image in self._images.of(frame).items():
            self._offer(f"image {sensor}", image)
        if time.monotonic() >= self._counts_s:
            self._counts_s = time.monotonic() + _COUNTS_S
            found = counted(self._source.reader) | self._times.counted()
            self._offer("counts", self._text(found), keep=True)

    def _take_times(self, frame: Frame) -> None:
        """Of this frame and those that were left out before it."""
        number, before = self._source.number, self._number
        if before >= 0:
            for past in range(max(before + 1, number - _PAST_MAX), number):
                record = self._source.reader.past(past)
                if record is not None:
                    self._times.take(record)
        self._times.take(frame.record)
        self._times.tick(frame.cycle, frame.latched_ns)
        self._number = number

    def _text(self, message: dict[str, object]) -> str:
        return self._encode.encode(message).decode()

    def close(self) -> None:
        """Have `follow` end. Thread: any."""
        self._is_closed = True
