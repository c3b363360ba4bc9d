"""The pictures of a camera in an episode, one per row: into a video, or as PNGs for the table."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inphase.export.frame_table import FrameTable
from inphase.export.lerobot.features import Camera, Features
from inphase.export.lerobot.pictures import Picture, Video, in_colour, png
from inphase.export.lerobot.statistics import RunningStatistics

_LOOKED_AT = 100
"""pictures of an episode of which statistics are taken, at most twice as many"""
_POINTS = 128
"""of a picture, along each side"""


class Reel:
    """Takes the pictures of rows in order; `close` ends it. Thread: one at a time."""

    def __init__(self, path: Path, camera: Camera, table: FrameTable, features: Features) -> None:
        self.key = camera.key
        self._camera = camera
        self._table = table
        self._video: Video | None = None
        if features.options.images == "video":
            path.parent.mkdir(parents=True, exist_ok=True)
            self._video = Video(path, camera.width, camera.height, features.fps)
        self._newest = -2
        self._png = b""
        self._different = 0
        self._looked_every = 1
        self.blank = 0
        """rows without a picture"""
        self.statistics = RunningStatistics()
        """of its numbers between 0 and 1, per colour"""

    def take(self, sequences: NDArray[np.int64]) -> list[bytes]:
        """The pictures with these numbers, one per row, -1: black; the files, where no video has
        them."""
        files = []
        for sequence in sequences.tolist():
            picture = None
            if sequence != self._newest:
                picture = self._picture(sequence)
                self._newest = sequence
            self.blank += sequence < 0
            if self._video is not None:
                self._video.add(picture)
            else:
                if picture is not None:
                    self._png = png(picture)
                files.append(self._png)
        return files

    def _picture(self, sequence: int) -> Picture:
        camera = self._camera
        if sequence < 0:
            return np.zeros((camera.height, camera.width, 3), np.uint8)
        found = in_colour(self._table.image(camera.image, sequence))
        if self._different % self._looked_every == 0:
            self._look_at(found)
        self._different += 1
        return found

    def _look_at(self, picture: Picture) -> None:
        """Take statistics of some of its points."""
        rows, columns = (max(1, size // _POINTS) for size in picture.shape[:2])
        self.statistics.add(picture[::rows, ::columns].reshape(-1, 3) / 255.0)
        if self._different >= 2 * _LOOKED_AT * self._looked_every:
            self._looked_every *= 2

    def close(self) -> None:
        """Write the end of its video. Raises RuntimeError where a picture is missing in it."""
        if self._video is not None:
            self._video.close()
            assert self._video.written == self._video.given
