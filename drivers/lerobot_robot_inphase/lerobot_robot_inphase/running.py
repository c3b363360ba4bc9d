"""The robots of this process: a leader of the robot's own schedule reads the robot's frames."""

import time
from collections.abc import Collection
from pathlib import Path

import msgpack

import inphase
from inphase.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.store import Lost
from inphase.plan import plan as planning
from inphase.schedule import Schedule

RUNNING: dict[Path, "Robot"] = {}
"""by the schedule's path"""


def layout_of(schedule: Schedule) -> Layout:
    """Of a robot's frames, before it runs. Raises ScheduleError."""
    return Layout.from_description(msgpack.unpackb(planning.make(schedule).description(0)))


class Robot:
    """A robot that runs, and its newest frame. Thread: one at a time."""

    def __init__(self, runner: inphase.Runner) -> None:
        self.runner = runner
        self.frame: Frame | None = None

    def newest(self, wanted: Collection[str], accepts: Collection[str], patience_s: float) -> Frame:
        """The newest frame in which these sensors have one of the statuses; waits for the next one.

        Raises ConnectionError where none comes in that time, and where the run has ended.
        """
        until = time.monotonic() + patience_s
        while True:
            try:
                frame = self.runner.next(patience_s, newest=True)
            except TimeoutError:
                raise ConnectionError(self._said(f"gave no frame for {patience_s:g} s")) from None
            except Lost as lost:
                raise ConnectionError(self._said(f"has ended: {lost}")) from lost
            self.frame = frame
            bad = [n for n in wanted if frame[n].status not in accepts or frame[n].sequence < 0]
            if not bad:
                return frame
            if time.monotonic() > until:
                states = ", ".join(f"{name} is {frame[name].status}" for name in bad)
                raise ConnectionError(self._said(f"{states} for {patience_s:g} s"))

    def _said(self, what: str) -> str:
        return " | ".join([f"robot {self.runner.schedule.name} {what}", *self.runner.messages[-3:]])
