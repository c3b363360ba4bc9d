"""Faults of a running robot: the runtime as a process, the emulated devices as another.

The rows named in the headings are those of the catalogue of faults.
"""

import signal
from collections.abc import Iterator

import pytest

from runtimes import Robot

pytestmark = pytest.mark.real


@pytest.fixture
def robot() -> Iterator[Robot]:
    """An emulated robot and a schedule for it."""
    with Robot() as made:
        yield made


# ---- rows 1 to 9: replies ------------------------------------------------------------------

REPLIES = {
    "arm late": ("arm", "joints", {"fault": "late", "arg": 6000}, "LATE", "silent", None),
    "arm silent": ("arm", "joints", {"fault": "silent"}, "MISSING", "silent", None),
    "arm short": ("arm", "joints", {"fault": "short", "arg": 20}, "MISSING", "silent", None),
    "arm garbled": ("arm", "joints", {"fault": "garble"}, "INVALID", "checksum", None),
    "arm wrong id": (
        "arm",
        "joints",
        {"fault": "wrong_id", "servo": 2, "arg": 100},
        "INVALID",
        "mismatch",
        100,
    ),
    "arm error bit": (
        "arm",
        "joints",
        {"fault": "error", "servo": 1, "arg": 0x80},
        "INVALID",
        "device",
        0x80,
    ),
    "wrist late": ("wrist", "wrench", {"fault": "late", "arg": 6000}, "LATE", "silent", None),
    "wrist silent": ("wrist", "wrench", {"fault": "silent"}, "MISSING", "silent", None),
    "wrist short": ("wrist", "wrench", {"fault": "short", "arg": 20}, "INVALID", "size", 20),
    "wrist status word": (
        "wrist",
        "wrench",
        {"fault": "status_word", "arg": 0x80020000},
        "INVALID",
        "device",
        0x80020000,
    ),
    "wrist frozen": ("wrist", "wrench", {"fault": "freeze"}, "FROZEN", "none", None),
}


@pytest.mark.parametrize("name", REPLIES)
def test_a_bad_reply_gives_its_status_and_the_cycle_goes_on(robot: Robot, name: str) -> None:
    device, sensor, fault, status, reason, detail = REPLIES[name]
    with robot.run() as run:
        run.moving()
        robot.emulator.control({"device": device, "count": -1, **fault})
        bad = run.status(sensor, status)[sensor]
        assert bad.reason == reason
        assert detail is None or bad.detail == detail
        assert bad.sequence >= 0, "the last good sample is still named"
        robot.emulator.control({"device": device, "fault": "clear"})
        good = run.status(sensor, "FRESH")
        assert good[sensor].sequence > bad.sequence
        run.frame(
            lambda frame: frame.command["arm"].flags in {("WRITTEN",), ("WRITTEN", "LIMITED")}
        )
        run.signal(signal.SIGINT)
        code, summary = run.end()
        assert code == 130
        assert summary["sensors"][sensor]["status"][status] > 0
        assert summary["latched"] is None
