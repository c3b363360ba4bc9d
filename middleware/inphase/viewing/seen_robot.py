"""A run that is looked at: its layout, the forms of its messages, and the facts about it."""

import time
from dataclasses import dataclass

from inphase.frames.layout import Layout
from inphase.frames.subscription import Subscription
from inphase.recording import facts
from inphase.recording.channels import Forms
from inphase.recording.mcap_file import PROFILE

_LEFT_OUT = {facts.RECORDER}  # this process is none


@dataclass(frozen=True)
class SeenRobot:
    """One run of a robot."""

    layout: Layout
    forms: Forms
    wall_offset_ns: int
    """the wall clock less the robot's monotonic one"""
    facts: dict[str, dict[str, str]]
    """those of a recording: run, description, schedule, legend, channels"""

    @classmethod
    def of(cls, source: Subscription) -> "SeenRobot":
        """The one that a subscription follows now."""
        offset_ns = source.description.get("wall_offset_ns")
        # virtual time has none: its start is now
        offset_ns = int(time.time_ns() if offset_ns is None else offset_ns)
        forms = Forms.of(source.layout, offset_ns)
        found = facts.of_run(source.description, forms, offset_ns, None)
        texts = {
            one.name.removeprefix(f"{PROFILE}."): one.metadata
            for one in found
            if one.name not in _LEFT_OUT
        }
        return cls(source.layout, forms, offset_ns, texts)
