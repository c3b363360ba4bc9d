"""What the contract is for: drivers that break it in one way each, and the test that says so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from inphase.command.drafts import scaffold
from peers import BOUND_S, ROOT

pytestmark = [pytest.mark.real, pytest.mark.long]

BROKEN = {
    "takes_anything": (
        "a_wrong_option_is_refused_with_its_key",
        """
    class Options(msgspec.Struct, frozen=True, kw_only=True):
        port: str
        baud: int = 115200
""",
    ),
    "has_no_unit": (
        "the_sensors_fields_have_names_units_and_plain_types",
        """
    def sensor(self):
        return replace(super().sensor(), fields=(driver.Field("distance", ""),))
""",
    ),
    "forgets_a_twin": (
        "the_sensors_fields_have_names_units_and_plain_types",
        """
    def sensor(self):
        return replace(super().sensor(), twin=())
""",
    ),
    "fills_a_channel_that_is_not_there": (
        "the_exchange_fits_the_core",
        """
    def sensor(self):
        spec = super().sensor()
        (reply,) = spec.exchange.replies
        reply = replace(reply, values=(replace(reply.values[0], channel=1),))
        return replace(spec, exchange=replace(spec.exchange, replies=(reply,)))
""",
    ),
    "looks_at_nobody": (
        "a_device_that_does_not_answer_is_named_with_its_place",
        """
    def _find(self, fd, spec):
        pass
""",
    ),
    "takes_any_device": (
        "a_wrong_device_is_refused_and_named_with_its_place",
        """
    def _find(self, fd, spec):
        pass
""",
    ),
    "says_no_place": (
        "an_absent_device_is_named_with_its_place",
        """
    def open(self):
        try:
            return super().open()
        except driver.DeviceError:
            raise driver.DeviceError("it does not work") from None
""",
    ),
    "closes_once": (
        "close_may_always_be_called_and_open_again_after_it",
        """
    def close(self):
        self._serial.close()
""",
    ),
    "leaks": (
        "no_descriptor_is_left_by_open_and_close",
        """
    def open(self):
        self.leaks = [*getattr(self, "leaks", []), open("/dev/null")]
        return super().open()
""",
    ),
    "claims_a_later_acquisition": (
        "stamps_are_in_order_and_fresh_is_of_this_cycle[cycle]",
        """
    def sensor(self):
        spec = super().sensor()
        return replace(spec, exchange=replace(spec.exchange, acquire_ns=500_000_000))
""",
    ),
    "asks_twice": (
        "the_device_was_asked_once_for_each_sample_and_each_miss[cycle]",
        """
    def sensor(self):
        spec = super().sensor()
        request = 2 * spec.exchange.request
        return replace(spec, exchange=replace(spec.exchange, request=request))
""",
    ),
    "does_not_notice_a_hang_up": (
        "unplugged_is_offline_and_it_comes_back[cycle]",
        """
    def open(self):
        fd = super().open()
        settings = termios.tcgetattr(fd)
        settings[6][termios.VMIN] = 0
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        self._serial.close()
        self._serial = None
        return os.open(self.options.port, os.O_RDWR | os.O_NOCTTY)
""",
    ),
}
_HEAD = """
import os
import termios
from dataclasses import replace

import msgspec

from inphase import driver
from ranger import Ranger

"""
_TESTS = """
import pytest

import broken
from inphase.testing import DriverContract
from test_ranger import RangerPeer


class Contract(DriverContract):
    replugs = 1

    @pytest.fixture
    def device(self, tmp_path):
        peer = RangerPeer(tmp_path)
        yield peer
        peer.close()

"""


# those that read by themselves: what each derives from, the test that is for it, what is wrong
BROKEN_BY_HAND = {
    "loses_its_place": (
        "gauge.Gauge",
        "a_reply_is_the_same_at_every_split_point",
        """
    def _take(self):
        found = super()._take()
        if found is None:
            self._held = b""
        return found
""",
    ),
    "answers_with_what_is_left": (
        "gauge.Gauge",
        "after_a_stall_fresh_is_of_its_own_trigger[process]",
        """
    def sensor(self):
        spec = super().sensor()
        return replace(spec, calls=replace(spec.calls, latency_min_ns=0))

    def flush(self):
        return 0
""",
    ),
    "keeps_its_backlog": (
        "streamer.ByHand",
        "a_backlog_never_becomes_a_lag[process]",
        """
    def read(self, sample, timeout_ns):
        if not select.select([self._fd], [], [], timeout_ns / 1e9)[0]:
            raise TimeoutError
        return super().read(sample, timeout_ns)
""",
    ),
    "lets_it_go_on": (
        "mover.Mover",
        "a_device_that_comes_back_in_motion_is_stopped_before_anything_else[process]",
        """
    def halt(self, command):
        pass
""",
    ),
}
_HEAD_BY_HAND = """
import select
from dataclasses import replace

import gauge
import mover
import streamer

"""
_TESTS_BY_HAND = """
import pytest

import by_hand
from gauge import Gauge
from inphase.testing import rig
from inphase.testing import DriverContract
from mover import Mover
from script_peers import MoverPeer, StreamerPeer
from test_ranger import RangerPeer

PEERS = {"gauge": RangerPeer, "mover": MoverPeer, "streamer": StreamerPeer}


class Contract(DriverContract):
    homes = ("process",)
    replugs = 2

    @pytest.fixture
    def device(self, tmp_path):
        peer = PEERS[self.of](tmp_path)
        yield peer
        peer.close()


class Broken(Contract):
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch):
        monkeypatch.setattr(rig, "BOUND_S", 5)


class TestGauge(Contract):
    driver = Gauge
    of = "gauge"


class TestMover(Contract):
    driver = Mover
    of = "mover"

"""


def contract(folder: Path, *tests: str) -> str:
    """Run tests there; what pytest says."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=10 * BOUND_S,
        check=False,
    )
    return done.stdout


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """A folder with drivers that read by themselves, broken ones and the two they derive from."""
    folder = scaffold.new_driver("ranger", tmp_path)
    drivers, tests = _HEAD_BY_HAND, _TESTS_BY_HAND
    for name, (base, _, body) in BROKEN_BY_HAND.items():
        kind, of = scaffold.class_name(name), base.partition(".")[0]
        drivers += f"\nclass {kind}({base}):{body}\n"
        tests += f"\nclass Test{kind}(Broken):\n    driver = by_hand.{kind}\n    of = '{of}'\n"
    (folder / "by_hand.py").write_text(drivers)
    (folder / "test_by_hand.py").write_text(tests)
    return folder


def test_drivers_that_read_by_themselves_keep_the_contract(by_hand: Path) -> None:
    # where they are special; the rest of the contract asks `Counter`
    parts = "reply or garbage or silence or stall or backlog or unplugged"
    told = contract(by_hand, "test_by_hand.py", "-k", f"TestGauge and ({parts})")
    told += contract(by_hand, "test_by_hand.py", "-k", "TestMover and (enabling or motion)")
    assert not re.findall(r"^(?:FAILED|ERROR) .*", told, re.MULTILINE), told[-4000:]
    skips = re.findall(r"^SKIPPED \[\d+\] \S+: (.*)", told, re.MULTILINE)
    assert skips == [
        "Gauge has no exchange that declares a checksum",
        "Mover declares no watchdog: only the guard covers it",
        "Mover takes no positions, by which its way is judged",
    ]


def test_each_way_to_read_wrong_fails_the_test_that_is_for_it(by_hand: Path) -> None:
    wanted = [
        f"test_by_hand.py::Test{scaffold.class_name(name)}::test_{test}"
        for name, (_, test, _) in BROKEN_BY_HAND.items()
    ]
    told = contract(by_hand, *wanted)
    failed = set(re.findall(r"^FAILED (\S+)", told, re.MULTILINE))
    assert failed == set(wanted), told[-4000:]


def test_each_way_to_break_the_contract_fails_the_test_that_is_for_it(tmp_path: Path) -> None:
    folder = scaffold.new_driver("ranger", tmp_path)
    drivers, tests, wanted = _HEAD, _TESTS, []
    for name, (test, body) in BROKEN.items():
        kind = scaffold.class_name(name)
        drivers += f"\nclass {kind}(Ranger):{body}\n"
        tests += f"\nclass Test{kind}(Contract):\n    driver = broken.{kind}\n"
        wanted.append(f"test_broken.py::Test{kind}::test_{test}")
    (folder / "broken.py").write_text(drivers)
    (folder / "test_broken.py").write_text(tests)
    told = contract(folder, *wanted)
    failed = set(re.findall(r"^FAILED (\S+)", told, re.MULTILINE))
    assert failed == set(wanted), told[-4000:]
