"""One camera as one client wants it: its images are cropped, made smaller and encoded."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.client.camera_view import CameraView, need_pillow
from inphase.errors import ServiceError
from inphase.frames.message import Form
from inphase.frames.record_layout import ABSENT, HEADER, ROW, STATUSES
from inphase.frames.wire import sample_dtype

_QUALITY = 85  # of a JPEG
_COLOURS = (1, 3)
_LATCHED_NS = HEADER.index("latched_ns")
_ACQUIRED_NS, _AGE_NS = ROW.index("acquired_ns"), ROW.index("age_ns")
_SINCE = _ACQUIRED_NS, ROW.index("triggered_ns"), ROW.index("received_ns")
"""the stamps that the age of a sample is counted from: the first that is known, as in the core"""
_STATUS, _REASON, _DETAIL = ROW.index("status"), ROW.index("reason"), ROW.index("detail")
_HELD, _MISSING = STATUSES.index("HELD"), STATUSES.index("MISSING")


class SentCamera:
    """Makes the parts of a client's messages that are this camera's. Thread: one.

    sensor: its number in the form. max_age_ns: an older image is MISSING. Raises ServiceError for a
    view that its images do not have.
    """

    def __init__(self, form: Form, sensor: int, view: CameraView, max_age_ns: int) -> None:
        self.name = form.layout.sensors[sensor]
        self.sensor = sensor
        self.view = view
        self._max_age_ns = max_age_ns
        self._row_at = form.layout.record.row(sensor)
        self._dtype = form.layout.dtypes[sensor]
        names = self._dtype.names or ()
        shape = self._dtype[names[0]].shape if len(names) == 1 else ()
        if len(shape) not in {2, 3}:
            raise ServiceError(f"{self.name} is no camera: its samples are no single image")
        self._field = names[0]
        self._base = self._dtype[self._field].base
        self._colours = shape[2] if len(shape) == 3 else 1
        self._crop = self._checked_crop(shape[1], shape[0])
        self._size = self._checked_size()
        self._check_pixels()
        width, height = self._size
        self.shape = (height, width, *shape[2:])
        """of the images that are sent"""
        self.dtype = sample_dtype([(self._field, self.shape, self._base.str)])
        """of a sample of them"""
        self._sent: tuple[int, bytes] | None = None
        self._present: tuple[int, bytes] = (-1, b"")

    def _checked_crop(self, width: int, height: int) -> tuple[int, int, int, int]:
        x, y, w, h = self.view.crop or (0, 0, width, height)
        if w < 1 or h < 1 or x + w > width or y + h > height:
            raise ServiceError(
                f"camera {self.name}: crop {[x, y, w, h]} is [x, y, width, height], and lies "
                f"within {width} x {height} pixels"
            )
        return x, y, w, h

    def _checked_size(self) -> tuple[int, int]:
        _, _, w, h = self._crop
        width, height = self.view.size or (w, h)
        if not (1 <= width <= w and 1 <= height <= h):
            raise ServiceError(
                f"camera {self.name}: size {[width, height]} is [width, height], and at most that "
                f"of what is sent, {w} x {h} pixels"
            )
        return width, height

    def _check_pixels(self) -> None:
        is_resized = self._size != self._crop[2:]
        if not is_resized and self.view.codec == "raw":
            return
        if self._base != np.uint8 or self._colours not in _COLOURS:
            raise ServiceError(
                f"camera {self.name}: another size or codec is for bytes of 1 or 3 colours; its "
                f"pixels are {self._base.name} of {self._colours}: ask for a crop of raw pixels"
            )
        need_pillow(f"camera {self.name}: sizes and codecs")

    def is_due(self, record: Any) -> bool:
        """This frame's image is to be sent, if it was not yet: it is so many after the last one."""
        row = bytes(record[self._row_at : self._row_at + ROW.size])
        self._present = int.from_bytes(row[:8], "little", signed=True), row
        return self._sent is None or self._present[0] - self._sent[0] >= self.view.every

    def sent(self) -> None:
        """The present frame's image was sent."""
        self._sent = self._present

    def row(self, record: Any) -> bytes | None:
        """The row of the image that was sent last, as it is in this frame: with its true age. None:
        the frame names that one, or none was sent."""
        if self._sent is None or self._sent[0] == self._present[0]:
            return None
        fields = list(ROW.unpack_from(self._sent[1]))
        since_ns = next((fields[at] for at in _SINCE if fields[at] != ABSENT), ABSENT)
        age_ns = HEADER.unpack_from(record)[_LATCHED_NS] - since_ns
        fields[_AGE_NS] = ABSENT if fields[_ACQUIRED_NS] == ABSENT else age_ns
        fields[_STATUS] = _HELD if age_ns <= self._max_age_ns else _MISSING
        fields[_REASON] = fields[_DETAIL] = 0
        return bytes(ROW.pack(*fields))

    def part(self, sample: bytearray) -> bytes:
        """A sample of the camera as it is sent."""
        x, y, w, h = self._crop
        pixels = np.ndarray((), self._dtype, sample)[self._field][y : y + h, x : x + w]
        if self._size != (w, h):
            pixels = self._smaller(pixels)
        if self.view.codec != "raw":
            return self._encoded(pixels)
        out = np.zeros((), self.dtype)
        out[self._field] = pixels
        return out.tobytes()

    def _image(self, pixels: NDArray[Any]) -> Any:
        from PIL import Image

        plain = pixels[:, :, 0] if pixels.ndim == 3 and self._colours == 1 else pixels
        return Image.fromarray(np.ascontiguousarray(plain))

    def _smaller(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Each pixel is the mean of those that it stands for."""
        from PIL import Image

        smaller = np.asarray(self._image(pixels).resize(self._size, Image.Resampling.BOX))
        return smaller.reshape(self.shape)

    def _encoded(self, pixels: NDArray[Any]) -> bytes:
        out = io.BytesIO()
        if self.view.codec == "jpeg":
            self._image(pixels).save(out, "JPEG", quality=_QUALITY)
        else:
            self._image(pixels).save(out, "PNG", compress_level=1)
        return out.getvalue()


def sent_cameras(
    form: Form, views: dict[str, CameraView], max_age_ns: dict[str, int]
) -> list[SentCamera]:
    """Those that a client asks for. Raises ServiceError."""
    found = []
    for name, view in views.items():
        sensor = form.layout.indices.get(name, -1)
        if sensor not in form.large:
            cameras = ", ".join(form.layout.sensors[one] for one in form.large) or "none"
            raise ServiceError(
                f"{name} is no camera of {form.layout.robot} whose samples are sent by themselves; "
                f"there are: {cameras}"
            )
        found.append(SentCamera(form, sensor, view, max_age_ns[name]))
    return found


def described(description: dict[str, Any], cameras: list[SentCamera]) -> dict[str, Any]:
    """The robot's description with these cameras as they are sent."""
    sensors = [dict(sensor) for sensor in description["sensors"]]
    for camera in cameras:
        sensor = sensors[camera.sensor]
        name, _, dtype, unit = sensor["fields"][0]
        sensor["fields"] = [[name, list(camera.shape), dtype, unit]]
        sensor["size"] = camera.dtype.itemsize
        sensor["rate"] = {}
    return description | {"sensors": sensors}
