"""Images of cameras as JPEG, no larger and no more often than a page wants them."""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inphase.errors import StoreError
from inphase.frames.frame import Frame

_SIDE = 640  # pixels of the longer side at most
_EVERY_NS = 100_000_000
_QUALITY = 75
_SIDES = (2, 3)
_COLOURS = {1: "L", 3: "RGB", 4: "RGBA"}


def image_field(dtype: np.dtype[Any]) -> str | None:
    """The field of a sample that is an image, if it is the only one; else None."""
    names = dtype.names or ()
    if len(names) != 1:
        return None
    shape, base = dtype[names[0]].shape, dtype[names[0]].base
    colours = shape[2] if len(shape) == 3 else 1
    is_image = (
        len(shape) in _SIDES
        and min(shape[:2]) >= 2
        and colours in _COLOURS
        and base.kind in "uf"
        and (base.itemsize == 1 or colours == 1)
    )
    return names[0] if is_image else None


class CameraImages:
    """The newest images of some sensors. Thread: one at a time."""

    def __init__(self, fields: dict[int, str]) -> None:
        """fields: by sensor, the one with the pixels."""
        self._fields = fields
        self._sent = dict.fromkeys(fields, (-1, 0))
        """sequence and time of latch of the last one"""

    def of(self, frame: Frame) -> dict[int, bytes]:
        """By sensor, an image that is due: a byte with the sensor's number, then a JPEG."""
        found = {}
        for index in self._fields:
            sample = frame[frame.layout.sensors[index]]
            sequence, latched_ns = self._sent[index]
            is_due = frame.latched_ns - latched_ns >= _EVERY_NS
            if sample.sequence < 0 or sample.sequence == sequence or not is_due:
                continue
            try:
                pixels = _smaller(sample.value[self._fields[index]])
            except StoreError:
                continue
            if sample.intact:  # asked after the copy
                self._sent[index] = sample.sequence, frame.latched_ns
                found[index] = bytes([index]) + _jpeg(pixels)
        return found


def _smaller(pixels: NDArray[Any]) -> NDArray[Any]:
    """A copy of every so-manieth pixel, so that a large image costs what a small one does."""
    step = -(-max(pixels.shape[:2]) // _SIDE)
    return np.array(pixels[::step, ::step])


def _jpeg(pixels: NDArray[Any]) -> bytes:
    if pixels.dtype != np.uint8:
        pixels = _grey(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    image.convert("L" if pixels.ndim == 2 else "RGB").save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _grey(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Numbers that are no bytes, as a distance is one: from the least, black, to the most."""
    values = np.nan_to_num(pixels.astype(np.float32), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    return ((values - low) * (255.0 / max(high - low, 1e-9))).astype(np.uint8)
