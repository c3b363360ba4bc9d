"""Pictures of a camera: as a video, or as PNGs."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
LONGEST_S = 1000
"""of a video: LeRobot compares times in float32, which is too coarse from 1024 s on"""
CODEC = "h264"
_ENCODER = "libx264"
_OPTIONS = {"crf": "20", "preset": "veryfast", "bf": "0"}
_KEY_EVERY = 2  # frames: whoever trains reads single ones


def in_colour(image: NDArray[np.uint8]) -> Picture:
    """An image of 1, 3 or 4 colours with red, green and blue, shape (height, width, 3)."""
    if image.ndim == 2:
        return np.ascontiguousarray(np.broadcast_to(image[..., None], (*image.shape, 3)))
    return np.ascontiguousarray(image[..., :3])


def pixel_format(width: int, height: int) -> str:
    """Of a video: halved colours want even sides."""
    return "yuv444p" if width % 2 or height % 2 else "yuv420p"


class Video:
    """A file to be written, a picture per frame; `close` ends it. Thread: one at a time."""

    def __init__(self, path: Path, width: int, height: int, fps: Fraction) -> None:
        self._container = av.open(str(path), "w", format="mp4")
        stream = self._container.add_stream(_ENCODER, rate=fps, options=dict(_OPTIONS))
        assert isinstance(stream, av.VideoStream)
        self._stream = stream
        self._stream.width, self._stream.height = width, height
        self._pix_fmt = self._stream.pix_fmt = pixel_format(width, height)
        self._stream.codec_context.gop_size = _KEY_EVERY
        self._stream.time_base = self._stream.codec_context.time_base = 1 / fps
        self._time_base = 1 / fps
        self._frame: av.VideoFrame | None = None
        self.given = 0
        """pictures so far"""
        self.written = 0
        """pictures in the file so far"""

    def add(self, picture: Picture | None) -> None:
        """A picture, uint8 of shape (height, width, 3); None: the one before again."""
        if picture is not None:
            made = av.VideoFrame.from_ndarray(picture, format="rgb24")
            self._frame = made.reformat(format=self._pix_fmt)
        assert self._frame is not None
        self._frame.pts = self.given
        self._frame.time_base = self._time_base
        self.given += 1
        self._mux(self._frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)
            self.written += 1

    def close(self) -> None:
        """Write the rest and the end."""
        try:
            self._mux(None)
        finally:
            self._container.close()


def png(picture: Picture) -> bytes:
    """A picture as a file, without loss."""
    height, width, _ = picture.shape
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "rgb24"
    codec.time_base = Fraction(1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame.pts = 0
    packets = [*codec.encode(frame), *codec.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
