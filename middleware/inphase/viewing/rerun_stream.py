"""A robot's frames for Rerun: to a viewer that is started here, to one that listens, or to a file.

Rerun's library keeps what a viewer does not take, and then blocks whoever logs. So after each frame
it is asked if all was sent; as long as it was not, frames are left out.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from inphase.errors import ViewError
from inphase.frames.frame import Frame
from inphase.viewing.frame_series import FrameSeries, Remark, SeenImage, Series
from inphase.viewing.seen_robot import SeenRobot

LOG_TIME = "message_log_time"
"""the timeline of latches on the wall clock, as Rerun's own reader of recordings calls it"""
_TIMED_OUT = "timed out"
_FRAME_S = 0.02  # waited for a viewer after a frame
_END_S = 2.0
_FILE_S = 0.5  # a file is asked so often
_CONNECT_S = 2.0
_PORT = 9876


class RerunStream:
    """Streams one robot after the other; `begin` with each, then `show`, and `close` at the end.

    to: "rerun" starts a viewer, which wants a display; an address as rerun+http://HOST:PORT/proxy;
    or a file that is made, *.rrd. Raises ViewError. Thread: one at a time.
    """

    def __init__(self, to: str, say: Callable[[str], None]) -> None:
        self._to = to
        self._say = say
        self._stream: Any = None
        self._is_file = to != "rerun" and "://" not in to
        self._asks_s = 0.0
        self._is_held = False
        """the viewer has not taken all"""
        self.left_out = 0
        """frames that were not sent, for that"""
        if to == "rerun":
            if not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
                raise ViewError(
                    f"Rerun's viewer wants a display, and there is none; give the address of one "
                    f"that runs elsewhere, --to rerun+http://HOST:{_PORT}/proxy, or --to FILE.rrd"
                )
        elif "://" in to:
            _refuse_silence(to)
        elif os.path.lexists(to):
            raise ViewError(f"{to} is there already; give another name")

    # ---- a run ---------------------------------------------------------------------------------

    def begin(self, robot: SeenRobot) -> None:
        """Show another run from now on, as a recording of its own."""
        self._finish()
        layout = robot.layout
        self._offset_ns = robot.wall_offset_ns
        self._series = FrameSeries(layout)
        self._stream = rr.RecordingStream(
            f"inphase {layout.robot}", recording_id=f"{layout.epoch:016x}"
        )
        try:
            self._open()
        except Exception as error:  # of the library and of the system
            raise ViewError(f"{self._to}: cannot be opened: {error}") from error
        self._stream.send_blueprint(self._blueprint(robot))
        for path, names in self._series.names():
            self._stream.log(path, rr.SeriesLines(names=names), static=True)
        for name, texts in robot.facts.items():
            lines = [f"- **{key}**: {text}" for key, text in texts.items() if key != "toml"]
            lines += [f"```toml\n{texts['toml']}\n```"] if "toml" in texts else []
            document = rr.TextDocument("\n".join(lines), media_type="text/markdown")
            self._stream.log(f"description/{name}", document, static=True)

    def _open(self) -> None:
        if self._to == "rerun":
            self._stream.spawn()
        elif "://" in self._to:
            self._stream.connect_grpc(self._to)
        else:
            self._stream.save(self._to)
        self._say(f"{self._to}: a recording of Rerun, {self._stream.get_recording_id()}")

    def _blueprint(self, robot: SeenRobot) -> Any:
        layout = robot.layout
        images = set(self._series.images())
        views: list[Any] = [rrb.Spatial2DView(origin=f"/{path}", name=path) for path in images]
        for name in layout.sensors:
            if f"sensors/{name}" not in images:
                views.append(rrb.TimeSeriesView(origin=f"/sensors/{name}", name=name))
        views += [
            rrb.TimeSeriesView(origin=f"/actuators/{name}", name=name)
            for name, _, _ in layout.actuators
        ]
        views.append(rrb.TimeSeriesView(origin="/frame/age_ns", name="ages [ns]"))
        views.append(rrb.TextLogView(origin="/frame/log", name="states and statuses"))
        return rrb.Blueprint(rrb.Grid(contents=views))

    # ---- frames --------------------------------------------------------------------------------

    def show(self, frame: Frame, number: int) -> None:
        """Send a frame, or leave it out while the viewer takes nothing. Raises ViewError where the
        viewer is gone."""
        if self._is_held and not self._sent(0.0):
            self.left_out += 1
            return
        stream = self._stream
        latched = np.datetime64(frame.latched_ns + self._offset_ns, "ns")
        stream.set_time(LOG_TIME, timestamp=latched)
        stream.set_time("cycle", sequence=frame.cycle)
        for one in self._series.of(frame):
            stream.log(one.path, _archetype(one))
        if not self._is_file:
            self._is_held = not self._sent(_FRAME_S)
        elif time.monotonic() >= self._asks_s:
            self._ask_file()

    def _ask_file(self) -> None:
        """Raise ViewError where the file does not take what was logged: the library only waits."""
        self._asks_s = time.monotonic() + _FILE_S
        self._is_held = not self._sent(_END_S)
        if self._is_held:
            raise ViewError(f"{self._to}: takes nothing any more; is the disk full?")

    def _sent(self, timeout_s: float) -> bool:
        """True if the viewer, or at the end the file, has all of it."""
        try:
            self._stream.flush(timeout_sec=max(timeout_s, 1e-3))
        except Exception as error:  # the library has a class of its own for each version
            if _TIMED_OUT in str(error).lower():
                return False
            raise ViewError(f"{self._to}: the viewer or the file is gone: {error}") from error
        return True

    def tell(self, text: str) -> None:
        """A remark beside those of the frames."""
        if self._stream is not None and not self._is_held:
            self._stream.log("frame/log", rr.TextLog(text))

    @property
    def holds_exit(self) -> bool:
        """True if the library waits for a viewer that takes nothing, also at the process's end."""
        return self._is_held

    def close(self) -> None:
        """Send the rest, for a bounded time."""
        self._finish()
        if self.left_out:
            self._say(f"{self.left_out} frames were left out: the viewer did not take them")

    def _finish(self) -> None:
        if self._stream is None:
            return
        if self._is_held and self._is_file:
            return  # which was told
        with contextlib.suppress(Exception):  # it is gone, which was told
            self._stream.flush(timeout_sec=_END_S)
            self._stream.disconnect()
            self._stream, self._is_held = None, False
            return
        # it stays referred to: the library would wait for it where it is let go
        self._is_held = True
        if self._is_file:
            raise ViewError(f"{self._to}: its end could not be written; is the disk full?")


def _archetype(one: Series | SeenImage | Remark) -> Any:
    """As Rerun has it."""
    if isinstance(one, Series):
        return rr.Scalars(one.values)
    if isinstance(one, SeenImage):
        colours = one.values.shape[2] if one.values.ndim == 3 else 1
        return rr.Image(one.values, {1: "L", 3: "RGB", 4: "RGBA"}[colours])
    level = rr.TextLogLevel.WARN if one.is_bad else rr.TextLogLevel.INFO
    return rr.TextLog(one.text, level=level)


def _refuse_silence(address: str) -> None:
    """Raise ViewError where nobody listens: the library would try for ever."""
    try:
        parts = urlsplit(address)
        place = parts.hostname or "", parts.port or _PORT
        socket.create_connection(place, _CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ViewError(
            f"{address}: no viewer answers: {error}; start one with: rerun --port {_PORT}"
        ) from error
