"""Faults of replies on real descriptors: a pseudo-terminal and a UDP socket, in each home.

The rows named in the headings are those of the catalogue of faults.
"""

import math
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from inphase import Runner
from inphase.frame import Frame
from inphase.packets import checksum
from peers import BOUND_S, ROOT, until
from robots import SLOW_CYCLE
from wired import SIZE, VALUE, Answer, SerialDevice, UdpDevice, reply

pytestmark = pytest.mark.real
HOMES = ["cycle", "process"]

_SCHEDULE = f"""
name = "{{name}}"
{SLOW_CYCLE}[device.probe]
driver = "wired:{{kind}}"
home = "{{home}}"
port = {{port}}
[sensor.probe]
device = "probe"
trigger_us = 0
max_age_ms = 200
range = {{{{ value = [-2, 2] }}}}
"""


@pytest.fixture
def serial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SerialDevice]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    with SerialDevice(tmp_path / "port") as device:
        yield device


@pytest.fixture
def udp(monkeypatch: pytest.MonkeyPatch) -> Iterator[UdpDevice]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    with UdpDevice() as device:
        yield device


def on(device: SerialDevice | UdpDevice, folder: Path, home: str = "cycle") -> Runner:
    """A runtime on the device."""
    is_serial = isinstance(device, SerialDevice)
    path = folder / "run.toml"
    path.write_text(
        _SCHEDULE.format(
            name=f"wire{os.urandom(4).hex()}",
            kind="Serial" if is_serial else "Datagram",
            home=home,
            port=f'"{device.link}"' if isinstance(device, SerialDevice) else device.port,
        )
    )
    return Runner(path)


def follow(runner: Runner, wanted: Callable[[Frame], bool]) -> Frame:
    """The first frame that is as wanted; a bound on frames, not on time."""
    for _ in range(1000):
        frame = runner.next(BOUND_S)
        if wanted(frame):
            return frame
    raise AssertionError("not in 1000 frames")


def is_fresh(frame: Frame) -> bool:
    return frame["probe"].status == "FRESH"


def said_until(runner: Runner, device: SerialDevice | UdpDevice) -> list[tuple[str, str, int]]:
    """What the frames say, until the device's script is over and all is well again."""
    said = []

    def wanted(frame: Frame) -> bool:
        sample = frame["probe"]
        said.append((sample.status, sample.reason, sample.detail))
        if is_fresh(frame):
            assert sample.cycle == frame.cycle and sample.value["value"] == VALUE
        return device.done.is_set() and is_fresh(frame)

    follow(runner, wanted)
    return said


# ---- row 4: a number that came before, or an earlier one ----------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_a_number_that_does_not_go_on_is_never_fresh(
    udp: UdpDevice, tmp_path: Path, home: str
) -> None:
    with on(udp, tmp_path, home) as runner:
        follow(runner, is_fresh)
        again = [[reply(udp.count - back, value=-1.0)] for back in (1, 2, 7) for _ in range(3)]
        udp.tell(*again)
        said = said_until(runner, udp)
        assert not {status for status, *_ in said} & {"MISSING", "OFFLINE"}
        assert "FROZEN" in {status for status, *_ in said}
    assert runner.summary is not None
    assert runner.summary["duplicates"] >= len(again) // 2


def test_a_reply_that_comes_twice_is_taken_once(udp: UdpDevice, tmp_path: Path) -> None:
    with on(udp, tmp_path) as runner:
        before = follow(runner, is_fresh)["probe"].sequence
        udp.tell(*[[reply(count), reply(count)] for count in range(udp.count + 2, udp.count + 12)])
        said_until(runner, udp)
        after = runner.next(BOUND_S)
        assert after["probe"].sequence - before <= after.cycle
    assert runner.summary is not None
    assert runner.summary["duplicates"] + runner.summary["slips"] > 0


# ---- rows 5 and 6: what cannot be -------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
@pytest.mark.parametrize(
    ("value", "reason"),
    [(math.nan, "nan"), (math.inf, "nan"), (-math.inf, "nan"), (2.01, "range"), (-1e300, "range")],
)
def test_a_value_that_cannot_be_is_invalid_in_every_home(
    udp: UdpDevice, tmp_path: Path, home: str, value: float, reason: str
) -> None:
    with on(udp, tmp_path, home) as runner:
        follow(runner, is_fresh)
        first = udp.count + 3
        udp.tell(*([reply(first + i - 2, value)] for i in range(5)))
        said = said_until(runner, udp)
    assert ("INVALID", reason, 0) in said


# ---- row 7: the wrong size --------------------------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_a_datagram_of_any_other_length_is_invalid_with_its_size(
    udp: UdpDevice, tmp_path: Path, home: str
) -> None:
    sizes = [size for size in range(1, 40) if size != SIZE]
    whole = reply(1) + bytes(64)
    with on(udp, tmp_path, home) as runner:
        follow(runner, is_fresh)
        udp.tell(*([whole[:size]] for size in sizes))
        said = said_until(runner, udp)
    told = {detail for status, reason, detail in said if (status, reason) == ("INVALID", "size")}
    assert told <= set(sizes)
    assert len(told) > len(sizes) // 2, "one in each cycle, but for those that are lost to silence"


# ---- row 8: unplugged, and plugged in again -----------------------------------------------------


@pytest.mark.parametrize("home", HOMES)
def test_no_descriptor_is_left_by_a_port_that_comes_and_goes(
    serial: SerialDevice, tmp_path: Path, home: str
) -> None:
    with on(serial, tmp_path, home) as runner:
        follow(runner, is_fresh)
        runtime = psutil.Process(runner._robot._child.pid)  # type: ignore[union-attr]
        family = [runtime, *runtime.children()]
        before = [process.num_fds() for process in family]
        for _ in range(10):
            serial.plug(False)
            follow(runner, lambda frame: frame["probe"].status == "OFFLINE")
            serial.plug(True)
            follow(runner, lambda frame: frame["probe"].status == "RECOVERING")
            assert follow(runner, is_fresh)["probe"].value["value"] == VALUE
        until(lambda: [process.num_fds() for process in family] == before)
        assert [process.pid for process in family[1:]] == [p.pid for p in runtime.children()]
    assert runner.summary is not None
    assert runner.summary["lost_devices"] == 10


# ---- row 9: garbage, and parts ------------------------------------------------------------------


def _noise(size: int) -> bytes:
    """Bytes that begin like a reply now and then, and are none."""
    return (b"\xaa\x55\xaa" + bytes(range(251)))[:size]


def _spoiled(at: int) -> bytes:
    whole = bytearray(reply(1))
    whole[at] ^= 0x40
    return bytes(whole)


@pytest.mark.parametrize("home", HOMES)
def test_a_reply_in_two_parts_behind_noise_is_whole_wherever_it_is_split(
    serial: SerialDevice, tmp_path: Path, home: str
) -> None:
    with on(serial, tmp_path, home) as runner:
        follow(runner, is_fresh)
        first = serial.count + 100
        script: list[Answer] = []
        for split in range(SIZE + 1):
            for noise in (0, 1, 5):
                whole = reply(first + len(script))
                script.append([_noise(noise) + whole[:split], whole[split:]])
        serial.count = first + len(script)
        serial.tell(*script)
        said = said_until(runner, serial)
    # noise that begins as a reply takes its beginning along: that frame alone is INVALID
    statuses = [status for status, *_ in said]
    assert statuses.count("FRESH") > len(script) // 3
    assert said.count(("INVALID", "checksum", SIZE - 2)) <= len(script) // 3
    assert "OFFLINE" not in statuses


@pytest.mark.parametrize("home", HOMES)
def test_a_reply_with_any_byte_spoiled_is_never_a_sample(
    serial: SerialDevice, tmp_path: Path, home: str
) -> None:
    with on(serial, tmp_path, home) as runner:
        follow(runner, is_fresh)
        serial.tell(*([_spoiled(at)] for at in range(SIZE)))
        said = said_until(runner, serial)
    assert {status for status, *_ in said} <= {"FRESH", "RECOVERING", "INVALID", "LATE", "MISSING"}
    assert ("INVALID", "checksum") in {item[:2] for item in said}


def test_the_reply_that_the_tests_make_is_the_one_that_the_driver_describes() -> None:
    whole = reply(7)
    assert (len(whole), whole[:2]) == (SIZE, b"\xaa\x55")
    assert struct.unpack("<H", whole[-2:])[0] == checksum("CRC-16/UMTS", whole[:-2])
