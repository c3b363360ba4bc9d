"""The policy of attribution.py: it holds the robot, and is late when the page of times says so."""

import mmap
import os
import struct
import threading
import time
from typing import Any

import numpy as np

from inphase.frame import Frame

FIRST = 8
"""word of the page from which on the times are the policy's"""
DEEDS = ("slow", "asleep", "faults", "gil")
_BYTES, _NO_HUGE_PAGES = 4 << 20, 15


class Late:
    """Answers with the pose that it found."""

    def __init__(self) -> None:
        fd = os.open(os.environ["THIEF_PAGE"], os.O_RDONLY)
        self._page = mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
        self._pose: Any = None
        threading.Thread(target=self._hold, daemon=True).start()

    def _until_ns(self, deed: str) -> int:
        at = 8 * (FIRST + DEEDS.index(deed))
        return int(struct.unpack_from("q", self._page, at)[0])

    def _is_due(self, deed: str) -> bool:
        return time.monotonic_ns() < self._until_ns(deed)

    def _hold(self) -> None:
        """Hold the GIL: one long call of C at a time."""
        numbers = list(range(120_000))
        while True:
            if self._is_due("gil"):
                sum(numbers)
            else:
                time.sleep(0.0002)

    def __call__(self, frame: Frame) -> Any:
        while self._is_due("slow"):
            pass
        if self._is_due("asleep"):
            time.sleep(max(0, self._until_ns("asleep") - time.monotonic_ns()) / 1e9)
        while self._is_due("faults"):
            fresh = mmap.mmap(-1, _BYTES)
            fresh.madvise(_NO_HUGE_PAGES)
            np.frombuffer(fresh, np.uint8)[:: mmap.PAGESIZE] = 1
        if self._pose is None and frame["joints"].status == "FRESH":
            self._pose = frame["joints"].value["position"].copy()
        return self._pose
