"""CAN drives: the driver over UDP multicast and slcan, against canopen's LocalNode as drives.

The other end is a process of its own: SDO server, NMT, heartbeat, EMCY and PDO maps are those of
the `canopen` package; the state machine, the joint and the slcan adapter are this repository's.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import can
import canopen
import msgspec
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import json

from inphase.driver import DeviceError, Driver, Reading
from inphase.episodes.runner import Runner
from inphase_drivers.canopen import DriveOptions, Drives
from inphase_drivers.emulator import drives as emulated
from inphase_drivers.emulator.drive import dictionary
from peers import BOUND_S, EmulatorProcess, free_port, until
from robots import ARM_LIMITS, SLOW_CYCLE
from runtimes import SWEEP, Run

GROUP = "239.74.163.2"
NODES = [1, 2]
SCALES = [10_000.0, -20_000.0]  # the second joint turns the other way
WAIT_NS = int(BOUND_S * 1e9)


def need_multicast(port: int) -> None:
    """Skip where the machine has no route for it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.sendto(b"", (GROUP, port))
        except OSError as error:
            pytest.skip(f"UDP multicast to {GROUP}: {error}; a route for it is missing")


class Peer:
    """The emulated drives of one test, and the driver's options for them."""

    def __init__(self, folder: Path, interface: str) -> None:
        self.port = free_port(socket.SOCK_DGRAM)
        if interface == "udp_multicast":
            need_multicast(self.port)
        self.link = folder / "adapter"
        self.options: dict[str, Any] = {
            "interface": interface,
            "channel": GROUP if interface == "udp_multicast" else str(self.link),
            "bus": {"port": self.port} if interface == "udp_multicast" else {"sleep_after_open": 0},
            "nodes": NODES,
            "counts_per_rad": SCALES,
            # patient: what is tested is what happens, not when, also on a loaded machine
            "watchdog_ms": 2_000,
            "reply_max_us": 20_000,
            "hand_over_ms": 20_000,
        }
        bus = ", ".join(f"{key} = {value}" for key, value in self.options["bus"].items())
        self.schedule = folder / "drives.toml"
        self.schedule.write_text(
            f"""
[device.drives]
driver = "inphase_drivers.canopen:Drives"
interface = "{interface}"
channel = "{self.options["channel"]}"
bus = {{ {bus} }}
nodes = {NODES}
counts_per_rad = {SCALES}
"""
        )
        self.emulator = EmulatorProcess().start(self.schedule)

    def driver(self, **options: Any) -> Drives:
        return Drives("drives", msgspec.convert(self.options | options, DriveOptions))

    def control(self, **request: Any) -> dict[int, dict[str, Any]]:
        """Ask the emulator; what each node says of itself."""
        answer = self.emulator.control({"device": "drives", **request})
        return {int(node): status for node, status in answer["nodes"].items()}

    def node(self, node: int, **request: Any) -> dict[str, Any]:
        return self.control(node=node, **request)[node]

    @contextmanager
    def listener(self) -> Iterator[can.BusABC]:
        """A second station on the bus (UDP multicast only)."""
        assert self.options["interface"] == "udp_multicast"
        with can.Bus(interface="udp_multicast", channel=GROUP, port=self.port) as bus:
            yield bus


@pytest.fixture(params=["udp_multicast", "slcan"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path, request.param)
    with made.emulator:
        yield made


@pytest.fixture
def udp(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path, "udp_multicast")
    with made.emulator:
        yield made


@pytest.fixture
def slcan(tmp_path: Path) -> Iterator[Peer]:
    made = Peer(tmp_path, "slcan")
    with made.emulator:
        yield made


@contextmanager
def started(driver: Drives) -> Iterator[Drives]:
    """The driver opened and started; closed at the end."""
    try:
        driver.open()
        driver.start()
        yield driver
    finally:
        driver.close()


def empty(driver: Driver) -> Any:
    """A sample that holds nothing yet."""
    spec = driver.sensor()
    assert spec is not None
    sample = np.zeros((), [(f.name, f.dtype, f.shape) for f in spec.fields])
    for name in sample.dtype.names or ():
        sample[name] = np.nan
    return sample


def once(driver: Drives, sample: Any = None) -> tuple[Reading, Any]:
    """One trigger and its sample."""
    sample = empty(driver) if sample is None else sample
    driver.trigger()
    return driver.read(sample, WAIT_NS), sample


def follow(driver: Drives, target: list[float], wanted: Any) -> Any:
    """Send a target cycle after cycle until `wanted(sample)`; that sample."""
    found: list[Any] = []

    def cycle() -> bool:
        reading, sample = once(driver)
        assert reading.reason == ""
        driver.write(np.array(target))
        if wanted(sample):
            found.append(sample)
        return bool(found)

    until(cycle)
    return found[0]


def near(target: list[float]) -> Any:
    return lambda sample: np.allclose(sample["position"], target, atol=1e-3)


# ---- samples -------------------------------------------------------------------------------


@pytest.mark.real
def test_each_sync_gives_one_sample_of_all_nodes_and_both_sides_count_the_same(peer: Peer) -> None:
    with started(peer.driver()) as driver:
        for _ in range(100):
            before_ns = time.monotonic_ns()
            reading, sample = once(driver)
            assert reading.reason == ""
            assert all(np.isfinite(sample[name]).all() for name in sample.dtype.names)
            if peer.options["interface"] == "udp_multicast":
                assert reading.received_ns is not None
                assert before_ns <= reading.received_ns <= time.monotonic_ns()
            else:
                assert reading.received_ns is None  # slcan's stamp is no arrival
        assert driver.flush() == 0
        assert [node["syncs"] for node in peer.control().values()] == [100, 100]


@pytest.mark.real
def test_what_was_mapped_is_what_another_client_reads_back(udp: Peer) -> None:
    with started(udp.driver(interpolation_us=4_000)):
        network = canopen.Network()
        network.connect(interface="udp_multicast", channel=GROUP, port=udp.port)
        try:
            for node in NODES:
                sdo = network.add_node(node, dictionary()).sdo
                first, second, command = 0x1800, 0x1801, 0x1400
                assert [sdo[index][2].raw for index in (first, second, command)] == [1, 1, 1]
                assert sdo[first][1].raw == 0x4000_0180 + node
                assert sdo[second][1].raw == 0x4000_0280 + node
                assert sdo[command][1].raw == 0x0200 + node
                mapped = {
                    index: [sdo[index][sub].raw for sub in range(1, sdo[index][0].raw + 1)]
                    for index in (0x1A00, 0x1A01, 0x1600)
                }
                assert mapped == {
                    0x1A00: [0x6041_0010, 0x6064_0020],
                    0x1A01: [0x606C_0020, 0x6077_0010],
                    0x1600: [0x6040_0010, 0x607A_0020],
                }
                assert sdo[0x1016][1].raw == 127 << 16 | 2_000
                assert sdo[0x1017].raw == 20
                assert (sdo[0x60C2][1].raw, sdo[0x60C2][2].raw) == (40, -4)
        finally:
            network.disconnect()


@pytest.mark.real
@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ([0x1000, 0, 0x0001_0191], r"node 2 on udp.*0x1000:00 \(device type\).*profile 401"),
        ([0x1005, 0, 0x4000_0080], r"node 2 on udp.*0x1005:00.*SYNC comes from here alone"),
        ([0x1019, 0, 7], r"node 2 on udp.*0x1019:00.*is 7, but 0 in node 1"),
    ],
)
def test_a_node_that_is_not_what_is_needed_is_refused_with_object_and_value(
    udp: Peer, entry: list[int], text: str
) -> None:
    udp.node(2, object=entry)
    driver = udp.driver()
    with pytest.raises(DeviceError, match=text):
        driver.open()
    driver.close()


@pytest.mark.real
def test_a_node_that_counts_syncs_is_given_the_counter(udp: Peer) -> None:
    for node in NODES:
        udp.node(node, object=[0x1019, 0, 3])
    with started(udp.driver()) as driver, udp.listener() as bus:
        for _ in range(5):
            assert once(driver)[0].reason == ""
        counts: list[bytes] = []
        while len(counts) < 5:
            message = bus.recv(BOUND_S)
            assert message is not None
            if message.arbitration_id == 0x80:
                counts.append(bytes(message.data))
    assert counts == [b"\1", b"\2", b"\3", b"\1", b"\2"]


@pytest.mark.real
def test_position_velocity_and_effort_come_in_si_with_each_joints_direction(udp: Peer) -> None:
    with started(udp.driver()) as driver:
        driver.enable()
        sample = follow(driver, [30.0, 30.0], lambda s: (s["velocity"] > 2.9).all())
        assert (sample["position"] > 0).all()
        assert (sample["velocity"] < 3.1).all()
        driver.disable()
        _, sample = once(driver)
        assert np.allclose(sample["velocity"], 0)


@contextmanager
def virtual_drive() -> Iterator[Drives]:
    """A started driver, and its one emulated drive in a thread beside it."""
    options = {"interface": "virtual", "channel": "test_canopen"}
    peer = emulated.Drives(
        emulated.DrivesOptions(
            nodes=(1,), counts_per_rad=(1000.0,), start_position=(0.0,), **options
        ),
        time.monotonic_ns(),
    )
    stop = threading.Event()

    def serve() -> None:
        while not stop.wait(0.0005):
            peer.work(time.monotonic_ns())

    thread = threading.Thread(target=serve)
    thread.start()
    driver = Drives(
        "drives",
        DriveOptions(
            nodes=[1], counts_per_rad=1000.0, watchdog_ms=2000, reply_max_us=20_000, **options
        ),
    )
    try:
        with started(driver):
            yield driver
    finally:
        stop.set()
        thread.join()
        peer.close()


@pytest.mark.real
def test_a_virtual_bus_in_one_process_works_alike() -> None:
    with virtual_drive() as driver:
        for _ in range(20):
            assert once(driver)[0].reason == ""
        driver.enable()
        follow(driver, [0.1], near([0.1]))
        driver.disable()


# ---- pairing -------------------------------------------------------------------------------


@pytest.mark.real
def test_a_missing_tpdo_is_named_and_what_comes_late_is_never_taken_for_the_next(
    udp: Peer,
) -> None:
    with started(udp.driver(reply_max_us=1_000_000)) as driver, udp.listener() as bus:
        udp.node(2, faults=["silent"])
        driver.trigger()
        with pytest.raises(TimeoutError, match="TPDO1 of node 2, TPDO2 of node 2"):
            driver.read(empty(driver), 50_000_000)

        # quiet: no SYNC goes out while the rest may still come
        driver.trigger()
        with pytest.raises(TimeoutError, match="quiet"):
            driver.read(empty(driver), WAIT_NS)
        assert udp.node(2)["syncs"] == 1

        late = bytes.fromhex("37027f7f7f7f")
        bus.send(can.Message(arbitration_id=0x182, is_extended_id=False, data=late))
        taken: list[Reading] = []

        def quiet_is_over() -> bool:
            try:
                reading, sample = once(driver)
            except TimeoutError:
                return False
            assert np.allclose(sample["position"], 0)  # the late one was dropped
            taken.append(reading)
            return True

        until(quiet_is_over)
        assert taken[0].reason == ""
        assert udp.node(2)["syncs"] == 2


@pytest.mark.real
def test_a_read_that_was_given_up_too_soon_goes_on_where_it_was(udp: Peer) -> None:
    with started(udp.driver()) as driver, udp.listener() as bus:
        udp.node(2, faults=["silent"])
        driver.trigger()
        with pytest.raises(TimeoutError, match="TPDO1 of node 2"):
            driver.read(empty(driver), 50_000_000)
        for identifier, data in ((0x182, "4002e0b1ffff"), (0x282, "000000000000")):
            late = bytes.fromhex(data)
            bus.send(can.Message(arbitration_id=identifier, is_extended_id=False, data=late))
        sample = empty(driver)
        assert driver.read(sample, WAIT_NS).reason == ""
        assert sample["position"] == pytest.approx([0, 1])  # -20 000 counts, of -20 000 per rad


@pytest.mark.real
def test_a_tpdo_that_comes_twice_or_unasked_makes_the_sample_a_mismatch(udp: Peer) -> None:
    with started(udp.driver()) as driver, udp.listener() as bus:
        udp.node(1, faults=["twice"])
        reading, _ = once(driver)
        after, _ = once(driver)
        # node 1's second copies come while node 2's are missing, or are found at the next trigger
        assert {reading.reason, after.reason} <= {"mismatch", ""}
        assert "mismatch" in (reading.reason, after.reason)
        until(lambda: once(driver)[0].reason == "")

        bus.send(can.Message(arbitration_id=0x281, is_extended_id=False, data=bytes(6)))
        reading, _ = once(driver)
        assert (reading.reason, reading.detail) == ("mismatch", 0x281)
        assert once(driver)[0].reason == ""


@pytest.mark.real
def test_a_tpdo_of_another_size_is_said_and_the_next_is_good(peer: Peer) -> None:
    with started(peer.driver()) as driver:
        peer.node(2, faults=["short"])
        reading, _ = once(driver)
        assert (reading.reason, reading.detail) in (("size", 0x182), ("size", 0x282))
        assert once(driver)[0].reason == ""


# ---- the bus -------------------------------------------------------------------------------


@pytest.mark.real
def test_garbage_and_other_nodes_frames_change_nothing(udp: Peer) -> None:
    with started(udp.driver()) as driver, udp.listener() as bus:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            for data in (b"", b"garbage", bytes(300)):
                plain.sendto(data, (GROUP, udp.port))
        others: list[dict[str, Any]] = [
            {"arbitration_id": 0x183, "data": bytes(6)},  # another node's TPDO
            {"arbitration_id": 0x703, "data": b"\0"},  # and its boot-up
            {"arbitration_id": 0x701, "data": b""},  # no heartbeat has this size
            {"arbitration_id": 0x081, "data": b"\1\2\3"},  # nor an EMCY
            {"arbitration_id": 0x181, "data": bytes(6), "is_extended_id": True},
            {"arbitration_id": 0x181, "data": b"", "is_remote_frame": True},
            {"arbitration_id": 0x181, "data": bytes(12), "is_fd": True},
            {"arbitration_id": 0x004, "data": bytes(8), "is_error_frame": True},
        ]
        for other in others:
            bus.send(can.Message(**{"is_extended_id": False, **other}))
        for _ in range(10):
            assert once(driver)[0].reason == ""
        assert driver.nodes.bus is not None
        assert driver.nodes.bus.garbage == 3
        assert driver.nodes.bus.errors == 1


_IDS = [base + node for base in (0x80, 0x180, 0x280, 0x380, 0x580) for node in (1, 9)]
_FRAMES = st.lists(st.tuples(st.sampled_from(_IDS), st.binary(max_size=8)), max_size=20)


@pytest.mark.real
def test_whatever_frames_come_between_two_triggers_the_next_but_one_sample_is_good() -> None:
    with virtual_drive() as driver, can.Bus("test_canopen", interface="virtual") as other:

        @settings(max_examples=100, deadline=None, print_blob=True, phases=[Phase.generate])
        @given(_FRAMES)
        def check(frames: list[tuple[int, bytes]]) -> None:
            for identifier, data in frames:
                message = can.Message(arbitration_id=identifier, is_extended_id=False, data=data)
                other.send(message)
            unasked = [one for one, _ in frames if one in (0x181, 0x281)]
            reading, _ = once(driver)
            expected = ("mismatch", unasked[-1]) if unasked else ("", 0)
            assert (reading.reason, reading.detail) == expected
            reading, sample = once(driver)
            assert reading.reason == ""
            assert np.allclose(sample["position"], 0)

        check()


@pytest.mark.real
@pytest.mark.parametrize(
    "raw",
    [b"\r", b"\a", b"zzz\r", b"t\r", b"t18\r", b"t1816zz\r", b"\xff\xfe\x80\r", b"t999", b"T00\r"],
)
def test_garbage_from_the_adapter_costs_at_most_the_samples_it_hits(
    slcan: Peer, raw: bytes
) -> None:
    with started(slcan.driver()) as driver:
        assert once(driver)[0].reason == ""
        slcan.control(raw=raw.hex())

        def good() -> bool:
            try:
                return once(driver)[0].reason == ""
            except TimeoutError:
                return False

        until(good)
        assert all(once(driver)[0].reason == "" for _ in range(5))


@pytest.mark.real
def test_what_lies_behind_an_answer_of_the_adapter_is_drained_too(slcan: Peer) -> None:
    with started(slcan.driver()) as driver:
        assert once(driver)[0].reason == ""
        # held back for long: the answer to a SYNC, and what the nodes said to it
        old = b"\r" + b"".join(b"t%03X600007F7F7F7F\r" % one for one in sorted(driver.nodes.wanted))
        slcan.control(raw=(old + old).hex())
        reading, sample = once(driver)
        assert reading.reason == "mismatch"
        assert np.allclose(sample["position"], 0)
        assert once(driver)[0].reason == ""
        slcan.control(raw=(old + old).hex())
        assert driver.flush() == 2


@pytest.mark.real
def test_a_bus_that_went_off_is_gone(udp: Peer) -> None:
    with started(udp.driver()) as driver, udp.listener() as bus:
        off = can.Message(arbitration_id=0x40, is_extended_id=False, is_error_frame=True)
        bus.send(off)
        with pytest.raises(DeviceError, match=r"device drives: CAN bus udp_multicast:.* is off"):
            for _ in range(100):
                once(driver)


@pytest.mark.real
def test_an_adapter_that_is_pulled_out_is_gone_and_comes_back(slcan: Peer) -> None:
    driver = slcan.driver()
    files: list[int] = []
    for _ in range(5):
        with started(driver):
            assert once(driver)[0].reason == ""
            slcan.control(port=False)
            with pytest.raises(DeviceError, match="device drives: CAN bus slcan"):
                for _ in range(100):
                    once(driver)
        with pytest.raises(DeviceError, match=r"cannot open CAN bus slcan:.*plugged in"):
            driver.open()
        slcan.control(port=True)
        files.append(len(list(Path("/proc/self/fd").iterdir())))
    assert files == files[:1] * 5


@pytest.mark.real
def test_a_node_that_vanishes_is_named_with_its_bus_and_comes_back(peer: Peer) -> None:
    driver = peer.driver(watchdog_ms=200)
    with started(driver):
        once(driver)
        peer.node(2, power=False)

        def vanish() -> None:
            end_s = time.monotonic() + BOUND_S
            while time.monotonic() < end_s:
                driver.trigger()
                try:
                    driver.read(empty(driver), 20_000_000)
                except TimeoutError:
                    continue

        with pytest.raises(DeviceError, match=r"node 2 on .* is gone: no heartbeat for"):
            vanish()
    with pytest.raises(DeviceError, match=r"node 2 on .*: no answer to 3 SDO requests"):
        driver.open()
    peer.node(2, power=True)
    with started(driver):
        assert once(driver)[0].reason == ""


@pytest.mark.real
def test_a_node_that_restarts_unseen_is_noticed_by_its_boot_up(peer: Peer) -> None:
    driver = peer.driver()
    with started(driver):
        once(driver)
        peer.node(1, power=False)
        peer.node(1, power=True)
        with pytest.raises(
            DeviceError, match=r"node 1 on .* is no longer operational: (restarted|pre)"
        ):
            for _ in range(100):
                driver.trigger()
                driver.read(empty(driver), WAIT_NS)
    with started(driver):
        assert once(driver)[0].reason == ""


# ---- motion --------------------------------------------------------------------------------


@pytest.mark.real
def test_a_fault_makes_samples_invalid_with_node_and_error_code_until_it_is_reset(
    peer: Peer,
) -> None:
    with started(peer.driver()) as driver:
        assert once(driver)[0].reason == ""
        peer.node(2, fail=0x2310)  # CiA 301, 7.2.7: continuous over current
        reading, _ = once(driver)
        assert (reading.reason, reading.detail) == ("device", 2 << 16 | 0x2310)
        driver.enable()
        assert once(driver)[0].reason == ""
        assert {node["state"] for node in peer.control().values()} == {"ENABLED"}
        driver.disable()


@pytest.mark.real
def test_enable_walks_the_state_machine_and_sets_the_target_before_operation(udp: Peer) -> None:
    # few frames before `enable`: the listener's socket holds no more
    with started(udp.driver(watchdog_ms=300)) as driver, udp.listener() as bus:
        driver.enable()
        driver.disable()
        # the expedited downloads to node 1, up to the last one
        written: list[tuple[int, int]] = []
        while not written or written[-2:] != [(0x6040, 0x02), (0x6040, 0x00)]:
            message = bus.recv(BOUND_S)
            assert message is not None
            if message.arbitration_id == 0x601 and message.data[0] & 0xE0 == 0x20:
                index = int.from_bytes(message.data[1:3], "little")
                value = int.from_bytes(message.data[4:8], "little")
                if not written or written[-1] != (index, value):  # quick stop may be said twice
                    written.append((index, value))
        assert written == [
            (0x6007, 3),
            (0x6060, 8),
            (0x6040, 0x06),
            (0x6040, 0x07),
            (0x607A, 0),
            (0x6040, 0x0F),
            (0x6040, 0x02),
            (0x6040, 0x00),
        ]


@pytest.mark.real
def test_commands_take_effect_at_the_next_sync_and_the_joints_get_there(peer: Peer) -> None:
    with started(peer.driver()) as driver:
        with pytest.raises(DeviceError, match="a command while the drives are not enabled"):
            driver.write(np.array([0.0, 0.0]))
        driver.enable()
        driver.write(np.array([0.2, -0.4]))
        until(lambda: [node["commands"] for node in peer.control().values()] == [2, 2])
        assert [node["position"] for node in peer.control().values()] == [0, 0]
        follow(driver, [0.2, -0.4], near([0.2, -0.4]))
        assert peer.node(1)["position"] == pytest.approx(0.2, abs=1e-3)
        # in the drive's own direction: counts_per_rad is negative, the emulator has it as well
        assert peer.node(2)["position"] == pytest.approx(-0.4, abs=1e-3)
        with pytest.raises(DeviceError, match=r"node 1: a target of 1000000000\.0 rad"):
            driver.write(np.array([1e9, 0.0]))
        driver.disable()


@pytest.mark.real
def test_an_old_command_is_forgotten_by_enable(udp: Peer) -> None:
    with started(udp.driver()) as driver:
        driver.enable()
        once(driver)
        driver.write(np.array([2.0, 2.0]))  # waits in the nodes for a SYNC that does not come
        driver.disable()
        driver.enable()
        for _ in range(20):
            reading, sample = once(driver)
            assert reading.reason == ""
            assert np.allclose(sample["position"], 0)
            assert np.allclose(sample["velocity"], 0)
        driver.disable()


@pytest.mark.real
def test_enabling_a_drive_that_follows_does_not_let_go_of_it(udp: Peer) -> None:
    with started(udp.driver()) as driver, udp.listener() as bus:
        driver.enable()
        follow(driver, [0.3, 0.3], near([0.3, 0.3]))
        while bus.recv(0) is not None:
            pass
        driver.enable()
        driver.disable()
        words: list[int] = []
        while not words or words[-1] != 0x02:
            message = bus.recv(BOUND_S)
            assert message is not None
            if message.arbitration_id == 0x601 and message.data[:3] == b"\x2b\x40\x60":
                words.append(message.data[4])
            elif message.arbitration_id == 0x201:
                words.append(message.data[0])
        assert words == [0x0F, 0x02]


@pytest.mark.real
def test_disable_stops_a_moving_joint_before_it_takes_the_power(peer: Peer) -> None:
    with started(peer.driver()) as driver:
        driver.enable()
        follow(driver, [9.0, 9.0], lambda s: (s["velocity"] > 1.0).all())
        driver.disable()
        for node in peer.control().values():
            assert node["state"] == "SWITCH_ON_DISABLED"
            assert node["velocity"] == 0
            assert 0 < node["position"] < 8.9


@pytest.mark.real
def test_enable_that_one_node_refuses_leaves_none_enabled(udp: Peer) -> None:
    udp.node(2, object=[0x6502, 0, 0x01])  # profile position mode alone
    with started(udp.driver()) as driver:
        with pytest.raises(DeviceError, match=r"node 2 on .*0x6502:00 .*no cyclic synchronous"):
            driver.enable()
        until(lambda: udp.node(1)["state"] == "SWITCH_ON_DISABLED")


@pytest.mark.real
def test_a_drive_that_stops_following_is_said_and_gets_no_further_commands(udp: Peer) -> None:
    with started(udp.driver()) as driver:
        driver.enable()
        follow(driver, [0.1, 0.1], near([0.1, 0.1]))
        udp.node(1, fail=0x8611)  # CiA 402-2: following error
        reading, _ = once(driver)
        assert (reading.reason, reading.detail) == ("device", 1 << 16 | 0x8611)
        before = udp.control()
        driver.write(np.array([0.1, 0.1]))
        until(lambda: udp.node(2)["commands"] == before[2]["commands"] + 1)
        assert udp.node(1)["commands"] == before[1]["commands"]
        assert driver.withheld == 1


# a driver in a process of its own: enables, then streams a far target; says so with one line
_STREAM = """
import sys
import numpy as np
from msgspec import json
from inphase_drivers.canopen import DriveOptions, Drives

driver = Drives("drives", json.decode(sys.argv[1], type=DriveOptions))
sample = np.zeros((), [(f.name, f.dtype, f.shape) for f in driver.sensor().fields])
driver.open()
driver.start()
driver.enable()
said = False
while True:
    driver.trigger()
    driver.read(sample, 10**10)
    driver.write(np.array([1000.0, 1000.0]))
    if not said and (sample["velocity"] > 2.9).all():
        said = True
        print("moving", flush=True)
"""


@contextmanager
def streaming(peer: Peer, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that drives the joints far away; moving when this begins, killed at the end."""
    text = json.encode(peer.options | options).decode()
    process = subprocess.Popen(
        [sys.executable, "-c", _STREAM, text], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"moving\n", process.stderr.read().decode()
        yield process
    finally:
        process.kill()
        process.communicate()


def stopped(peer: Peer) -> bool:
    nodes = peer.control().values()
    return all(n["velocity"] == 0 and n["state"] == "SWITCH_ON_DISABLED" for n in nodes)


@pytest.mark.real
def test_the_drives_stop_when_the_driver_is_killed(peer: Peer) -> None:
    with streaming(peer, watchdog_ms=300) as process:
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: stopped(peer))
        for node in peer.control().values():
            assert node["error_code"] == 0x8130  # heartbeat error
            assert node["position"] < 900  # it did not just arrive


@pytest.mark.real
def test_the_drives_stop_when_the_driver_hangs_and_do_not_move_when_it_wakes(udp: Peer) -> None:
    with streaming(udp, watchdog_ms=300) as process:
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: stopped(udp))
        positions = [node["position"] for node in udp.control().values()]
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(BOUND_S) == 1
        assert process.stderr is not None
        assert "DeviceError: device drives: " in process.stderr.read().decode()
        assert stopped(udp)
        assert [node["position"] for node in udp.control().values()] == positions


@pytest.mark.real
def test_the_drives_stop_when_no_cycle_follows_enable(udp: Peer) -> None:
    with started(udp.driver(watchdog_ms=100, hand_over_ms=100)) as driver:
        driver.enable()
        until(lambda: stopped(udp))
        with pytest.raises(DeviceError, match=r"no heartbeat went out|no longer operational"):
            once(driver)
            driver.write(np.array([1.0, 1.0]))


@pytest.mark.real
def test_closing_without_disabling_leaves_the_watchdog_on(udp: Peer) -> None:
    driver = udp.driver(watchdog_ms=200)
    driver.open()
    driver.start()
    driver.enable()
    follow(driver, [9.0, 9.0], lambda s: (s["velocity"] > 1.0).all())
    driver.close()
    until(lambda: stopped(udp))


@contextmanager
def another_beats(peer: Peer, own_id: int) -> Iterator[None]:
    """Another node, such as a PLC or a second host, that sends a heartbeat."""
    with peer.listener() as bus:
        message = can.Message(arbitration_id=0x700 + own_id, is_extended_id=False, data=[5])
        bus.send(message)
        beating = bus.send_periodic(message, 0.02)
        yield
        beating.stop()


@pytest.mark.real
def test_enable_is_refused_where_another_node_sends_our_heartbeat(udp: Peer) -> None:
    with another_beats(udp, 127), started(udp.driver(watchdog_ms=300)) as driver:
        with pytest.raises(DeviceError, match=r"another node on .* sends the heartbeat 0x77F of"):
            driver.enable()
        assert stopped(udp)
    # and where its number is another one nothing is wrong
    with another_beats(udp, 126), started(udp.driver(watchdog_ms=300)) as driver:
        driver.enable()
        follow(driver, [0.1, 0.1], near([0.1, 0.1]))
        driver.disable()


@pytest.mark.real
def test_drives_that_another_node_begins_to_feed_are_stopped_and_it_is_said(udp: Peer) -> None:
    with started(udp.driver()) as driver:
        driver.enable()
        follow(driver, [900.0, 900.0], lambda s: (s["velocity"] > 1.0).all())
        with another_beats(udp, 127):
            with pytest.raises(DeviceError, match=r"another node on .* give own_id a number"):
                follow(driver, [900.0, 900.0], lambda _: False)
            until(lambda: all(node["velocity"] == 0 for node in udp.control().values()))


# ---- drives that hold already --------------------------------------------------------------

SAG = 20.0 / 400.0  # [rad]: a load of 20 rad/s^2 on the emulated drives' stiffness
_PROFILE_POSITION, _VELOCITY, _CYCLIC = 1, 3, 8
_ALL_MODES = [0x6502, 0, 0x3ED]  # 1 to 10, but for the reserved ones


@contextmanager
def another_master(peer: Peer) -> Iterator[list[Any]]:
    """The SDO clients of another program on the bus, which is gone afterwards."""
    network = canopen.Network()
    options = peer.options
    network.connect(interface=options["interface"], channel=options["channel"], **options["bus"])
    try:
        nodes = [network.add_node(node, dictionary()) for node in NODES]
        for node in nodes:
            node.sdo.RESPONSE_TIMEOUT = BOUND_S
        yield nodes
    finally:
        network.disconnect()


def enable_by_hand(node: Any, mode: int, target: float | None = None) -> None:
    """What another program does before it leaves a drive alone; on a lost master it is to fault."""
    sdo = node.sdo
    sdo[0x6007].raw = 1
    sdo[0x6060].raw = mode
    for word in (0x06, 0x07, 0x0F):
        sdo[0x6040].raw = word
    if target is not None:
        sdo[0x607A].raw = round(target * SCALES[NODES.index(node.id)])
        sdo[0x6040].raw = 0x1F if mode == _PROFILE_POSITION else 0x0F
    node.nmt.send_command(1)


def resting(peer: Peer) -> dict[int, dict[str, Any]]:
    """What the drives are, once all are at rest."""
    until(lambda: all(abs(node["velocity"]) < 1e-9 for node in peer.control().values()))
    return peer.control()


def left_holding(peer: Peer, mode: int, nodes: list[int]) -> dict[int, dict[str, Any]]:
    """Loaded joints, of which another program left some holding at 0.5 rad; what they are then."""
    for node in NODES:
        peer.node(node, object=_ALL_MODES)
    with another_master(peer) as masters:
        for node in nodes:
            enable_by_hand(masters[NODES.index(node)], mode, 0.5 if mode != _VELOCITY else None)
            peer.node(node, load=20.0)
        until(lambda: {peer.node(node)["nmt"] for node in nodes} == {"OPERATIONAL"})
        until(lambda: all(peer.node(node)["travel"] > SAG * 0.9 for node in nodes))
    return resting(peer)


def assert_holds(peer: Peer, before: dict[int, dict[str, Any]], nodes: list[int]) -> None:
    """Not let go for a moment, and never moved."""
    for node in nodes:
        now, then = peer.node(node), before[node]
        assert (now["power"], now["let_go"]) == (True, then["let_go"])
        assert now["travel"] == pytest.approx(then["travel"], abs=2e-4)  # a count is 1e-4


@pytest.mark.real
@pytest.mark.parametrize("mode", [_CYCLIC, _PROFILE_POSITION])
def test_drives_that_hold_a_load_keep_power_and_target_and_stay_where_they_are(
    peer: Peer, mode: int
) -> None:
    before = left_holding(peer, mode, NODES)
    for node in before.values():
        assert node["position"] == pytest.approx(0.5 + SAG, abs=1e-3)
    with started(peer.driver()) as driver:
        for _ in range(10):
            assert once(driver)[0].reason == ""
        assert_holds(peer, before, NODES)
        driver.enable()
        assert driver.goals() == pytest.approx([0.5, 0.5], abs=1e-3)
        for _ in range(10):
            assert once(driver)[0].reason == ""
            driver.write(np.array(driver.goals()))
        assert_holds(peer, before, NODES)
        assert {node["mode"] for node in peer.control().values()} == {_CYCLIC}
        # again, as after a stop that holds
        driver.enable()
        assert driver.goals() == pytest.approx([0.5, 0.5], abs=1e-3)
        assert_holds(peer, before, NODES)
        driver.disable()
        assert not any(node["power"] for node in peer.control().values())


@pytest.mark.real
def test_drives_that_hold_are_left_as_they_are_by_who_only_looks(slcan: Peer) -> None:
    before = left_holding(slcan, _CYCLIC, NODES)
    with another_master(slcan) as masters:
        masters[0].sdo[0x1016][1].raw = 5 << 16 | 60_000  # fed by node 5
    for _ in range(2):
        with started(slcan.driver()) as driver:
            assert once(driver)[0].reason == ""
    assert_holds(slcan, before, NODES)
    with another_master(slcan) as masters:
        assert [node.sdo[0x6007].raw for node in masters] == [1, 1]
        assert masters[0].sdo[0x1016][1].raw == 5 << 16 | 60_000


@pytest.mark.real
def test_a_drive_that_takes_no_mode_while_it_holds_is_refused_and_goes_on_holding(
    slcan: Peer,
) -> None:
    before = left_holding(slcan, _PROFILE_POSITION, [2])
    slcan.node(2, object=[0x2000, 0, 1])  # its maker allows no change of mode
    with started(slcan.driver()) as driver:
        with pytest.raises(
            DeviceError, match=r"node 2 on slcan.*0x6060:00.*stays 1 while.*support the arm"
        ):
            driver.enable()
        assert_holds(slcan, before, [2])
        until(lambda: slcan.node(1)["state"] == "SWITCH_ON_DISABLED")
        driver.disable()  # as at the end of a run whose start has failed
    assert_holds(slcan, before, [2])
    assert slcan.node(2)["mode"] == _PROFILE_POSITION
    # whoever asks for it by itself gets it
    other = slcan.driver()
    other.open()
    other.disable()
    other.close()
    assert not slcan.node(2)["power"]


@pytest.mark.real
def test_a_drive_that_holds_at_no_position_is_refused_before_anything_is_written(
    slcan: Peer,
) -> None:
    before = left_holding(slcan, _VELOCITY, [2])
    with started(slcan.driver()) as driver:
        with pytest.raises(DeviceError, match=r"node 2 on slcan.*0x6061:00.*is 3: the drive holds"):
            driver.enable()
        assert slcan.node(1)["state"] == "SWITCH_ON_DISABLED"
        driver.disable()
    assert_holds(slcan, before, [2])


@pytest.mark.real
def test_enable_that_fails_at_one_node_leaves_another_holding(slcan: Peer) -> None:
    before = left_holding(slcan, _CYCLIC, [1])
    with started(slcan.driver(watchdog_ms=300)) as driver:
        slcan.node(2, object=[0x6502, 0, 0x01])
        with pytest.raises(DeviceError, match=r"node 2 on .*no cyclic synchronous"):
            driver.enable()
        slcan.node(2, power=False)
        with pytest.raises(DeviceError, match=r"node 2 on .*: no answer"):
            driver.enable()
        with pytest.raises(DeviceError, match=r"node 2 on .*: no answer"):
            driver.disable()
        assert_holds(slcan, before, [1])
    # longer than the watchdog that is not to be left on
    time.sleep(0.5)
    assert_holds(slcan, before, [1])


@pytest.mark.real
@pytest.mark.parametrize("mode", [_CYCLIC, _PROFILE_POSITION])
def test_a_drive_that_is_found_moving_is_stopped_and_told_and_holds(peer: Peer, mode: int) -> None:
    for node in NODES:
        peer.node(node, object=_ALL_MODES)
        peer.node(node, load=20.0)
    with another_master(peer) as masters:
        for one in masters:
            enable_by_hand(one, mode, 1000.0)
    until(lambda: all(node["velocity"] > 2.9 for node in peer.control().values()))
    driver = peer.driver()
    with pytest.raises(
        DeviceError, match=r"moved.*node 1 at 3\.00 rad/s was stopped and holds; no"
    ):
        driver.open()
    before = resting(peer)
    for node in before.values():
        assert (node["state"], node["mode"], node["let_go"]) == ("ENABLED", _CYCLIC, 0)
        assert node["position"] < 900
    with started(driver):
        assert once(driver)[0].reason == ""
        driver.enable()
        assert_holds(peer, before, NODES)
        driver.disable()
    with another_master(peer) as masters:
        assert [one.sdo[0x605A].raw for one in masters] == [2, 2]  # as it was


@pytest.mark.real
def test_a_drive_that_stands_after_a_quick_stop_is_enabled_where_it_stands(slcan: Peer) -> None:
    left_holding(slcan, _CYCLIC, NODES)
    with another_master(slcan) as masters:
        for one in masters:
            one.sdo[0x605A].raw = 6
            one.sdo[0x607A].raw = round(1000 * SCALES[NODES.index(one.id)])
        until(lambda: all(node["velocity"] > 2.9 for node in slcan.control().values()))
        for one in masters:
            one.sdo[0x6040].raw = 0x02
    before = resting(slcan)
    with started(slcan.driver()) as driver:
        driver.enable()
        assert {node["state"] for node in slcan.control().values()} == {"ENABLED"}
        assert_holds(slcan, before, NODES)
        here = [before[node]["position"] - SAG for node in NODES]
        assert driver.goals() == pytest.approx(here, abs=1e-3)


@pytest.mark.real
def test_a_moving_drive_is_stopped_though_another_does_not_answer(slcan: Peer) -> None:
    with another_master(slcan) as masters:
        enable_by_hand(masters[1], _CYCLIC, 1000.0)
    until(lambda: slcan.node(2)["velocity"] > 2.9)
    slcan.node(1, power=False)
    driver = slcan.driver()
    with pytest.raises(DeviceError, match=r"node 2 at 3\.00 rad/s was stopped and holds"):
        driver.open()
    resting(slcan)
    with pytest.raises(DeviceError, match=r"node 1 on .*: no answer to 3 SDO"):
        driver.open()
    assert (slcan.node(2)["power"], slcan.node(2)["let_go"]) == (True, 0)


@pytest.mark.real
def test_a_node_that_another_program_has_stopped_by_nmt_is_woken(slcan: Peer) -> None:
    with another_master(slcan) as masters:
        masters[0].nmt.send_command(2)
        until(lambda: slcan.node(1)["nmt"] == "STOPPED")
    with started(slcan.driver()) as driver:
        assert once(driver)[0].reason == ""


@pytest.mark.real
def test_what_waits_in_a_drive_that_holds_is_not_brought_about_by_our_sync(slcan: Peer) -> None:
    with started(slcan.driver(watchdog_ms=60_000)) as first:
        first.enable()
        follow(first, [0.1, 0.1], near([0.1, 0.1]))
        first.write(np.array([2.0, 2.0]))  # for a SYNC that does not come
        until(lambda: len({node["commands"] for node in slcan.control().values()}) == 1)
    before = resting(slcan)
    with started(slcan.driver()) as driver:
        for _ in range(20):
            assert once(driver)[0].reason == ""
        driver.enable()
        for _ in range(5):
            once(driver)
        assert_holds(slcan, before, NODES)
        assert driver.goals() == pytest.approx([0.1, 0.1], abs=1e-3)


@pytest.mark.real
def test_a_run_that_cannot_start_leaves_the_arm_holding(slcan: Peer, tmp_path: Path) -> None:
    before = left_holding(slcan, _VELOCITY, NODES)
    done = subprocess.run(
        [sys.executable, "-m", "inphase", "run", str(DriveRobot(slcan, tmp_path).schedule)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode != 0
    assert "holds without a position" in done.stderr
    assert_holds(slcan, before, NODES)


# ---- options and twin ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"nodes": [1, 1]}, "different"),
        ({"nodes": [1, 2], "own_id": 2}, "own_id 2"),
        ({"counts_per_rad": [1.0]}, "one per node"),
        ({"counts_per_rad": 0.0}, "not 0"),
        ({"watchdog_ms": 30}, "twice heartbeat_ms"),
        ({"interpolation_us": 1_234}, "power of ten"),
        ({"speed": 1}, "unknown field"),
    ],
)
def test_options_that_cannot_be_are_refused(change: dict[str, Any], text: str) -> None:
    options = {
        "interface": "virtual",
        "channel": "c",
        "nodes": [1, 2],
        "counts_per_rad": 1.0,
        **change,
    }
    with pytest.raises(msgspec.ValidationError, match=text):
        msgspec.convert(options, DriveOptions)


def test_the_twin_has_every_channel_and_a_bus_its_own_address() -> None:
    options = DriveOptions(interface="socketcan", channel="can0", nodes=[1, 2], counts_per_rad=1e4)
    driver = Drives("drives", options)
    spec, actuator = driver.sensor(), driver.actuator()
    assert spec.exchange is None
    assert spec.calls is not None
    assert len(spec.twin) == sum(item.channels for item in spec.fields) == 6
    assert len(actuator.servos) == actuator.channels == 2
    assert driver.address == "can:socketcan:can0"


@pytest.mark.parametrize(
    ("interface", "bitrate", "least_ns"),
    [
        # SYNC of 47 bits, four TPDOs of 95, less the 3 bits behind the last; nine tenths of it
        ("slcan", 1_000_000, 381_600),
        ("pcan", 125_000, 3_052_800),
        # set by somebody else, or no wire at all
        ("socketcan", 125_000, 0),
        ("udp_multicast", 1_000_000, 0),
    ],
)
def test_a_sample_has_an_earliest_time_where_the_bit_rate_is_known(
    interface: str, bitrate: int, least_ns: int
) -> None:
    options = DriveOptions(
        interface=interface, channel="c", nodes=NODES, counts_per_rad=1e4, bitrate=bitrate
    )
    calls = Drives("drives", options).sensor().calls
    assert calls is not None
    assert calls.latency_min_ns == least_ns < calls.latency_ns


@pytest.mark.real
def test_the_emulated_adapter_takes_the_time_of_the_wire(slcan: Peer) -> None:
    with started(slcan.driver(bitrate=50_000, reply_max_us=1_000_000)) as driver:
        least_ns = driver.sensor().calls.latency_min_ns  # type: ignore[union-attr]
        assert least_ns == 7_632_000
        for _ in range(20):
            before_ns = time.monotonic_ns()
            assert once(driver)[0].reason == ""
            assert time.monotonic_ns() - before_ns >= least_ns


def test_an_absent_bus_is_named_with_what_to_do() -> None:
    options = DriveOptions(
        interface="slcan", channel="/nonexistent/tty", nodes=[1], counts_per_rad=1e4
    )
    with pytest.raises(DeviceError, match=r"device drives: cannot open CAN bus slcan:/nonexistent"):
        Drives("drives", options).open()


# ---- in a running robot --------------------------------------------------------------------

_ROBOT = f"""
name = "{{name}}"
{SLOW_CYCLE}{{device}}
[sensor.joints]
device = "drives"
trigger_us = 0
max_age_ms = 500
[actuator.arm]
device = "drives"
feedback = "joints.position"
on_stop = "limp"
{ARM_LIMITS}[policy]
call = "sweep.py:Sweep"
"""


class DriveRobot:
    """The emulated drives under a runtime's schedule; what `runtimes.Run` wants of a robot."""

    def __init__(self, peer: Peer, folder: Path, home: str = "process") -> None:
        self.peer, self.folder = peer, folder
        self.name = f"can{peer.port}"
        self.schedule = folder / "run.toml"
        head, device = peer.schedule.read_text().split("[device.drives]")
        assert not head.strip()
        device = f'[device.drives]\nhome = "{home}"{device}'
        device += "watchdog_ms = 2000\nreply_max_us = 10000\n"
        self.schedule.write_text(_ROBOT.format(name=self.name, device=device))
        folder.joinpath("sweep.py").write_text(SWEEP)

    @property
    def speed(self) -> float:
        """The fastest joint's velocity, rad/s."""
        return max(abs(node["velocity"]) for node in self.peer.control().values())

    def run(self, *options: str) -> Run:
        """Start `inphase run` on the schedule."""
        return Run(self, ["-m", "inphase", "run", str(self.schedule), "--json", *options], {})


@pytest.mark.real
@pytest.mark.parametrize("home", ["process", "thread"])
def test_a_robot_runs_with_its_drives_in_a_worker_and_leaves_them_off(
    peer: Peer, tmp_path: Path, home: str
) -> None:
    robot = DriveRobot(peer, tmp_path, home)
    with robot.run() as run:
        frame = run.status("joints", "FRESH")
        assert frame["joints"].cycle == frame.cycle
        run.moving()
        frame = run.status("joints", "FRESH")
        assert frame["joints"].triggered_ns < frame["joints"].acquired_ns
        assert frame["joints"].acquired_ns < frame["joints"].received_ns
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["stopped"]["reason"] == "signal"
    assert summary["commands"]["written"] > 0
    assert stopped(peer)


@pytest.mark.real
@pytest.mark.long
def test_a_node_that_vanishes_in_a_running_robot_is_offline_and_comes_back(
    udp: Peer, tmp_path: Path
) -> None:
    robot = DriveRobot(udp, tmp_path)
    with robot.run() as run:
        run.moving()
        udp.node(2, power=False)
        run.status("joints", "OFFLINE")
        until(lambda: udp.node(1)["state"] == "SWITCH_ON_DISABLED")  # the other one stops as well
        udp.node(2, power=True)
        run.status("joints", "FRESH")
        assert robot.speed == 0
        run.signal(signal.SIGINT)
        run.end()
        assert "node 2 on udp_multicast" in run.stderr


@pytest.mark.real
def test_the_drives_stop_when_their_worker_is_killed_and_it_comes_back(
    udp: Peer, tmp_path: Path
) -> None:
    robot = DriveRobot(udp, tmp_path)
    with robot.run() as run:
        run.moving().child("inphase.runtime.workers").kill()
        run.frame(lambda frame: frame["joints"].status not in ("FRESH", "HELD", "LATE"))
        run.status("joints", "FRESH")
        resting(udp)
        run.signal(signal.SIGINT)
        run.end()
    assert stopped(udp)


def test_in_lock_step_the_drives_twin_follows(tmp_path: Path) -> None:
    device = (
        '[device.drives]\ndriver = "inphase_drivers.canopen:Drives"\ninterface = "socketcan"\n'
        'channel = "can0"\nnodes = [1, 2]\ncounts_per_rad = 10_000\nstart_position = [0.1, -0.1]\n'
    )
    path = tmp_path / "robot.toml"
    path.write_text(_ROBOT.format(name=f"twin{os.getpid()}", device=device))
    tmp_path.joinpath("sweep.py").write_text(SWEEP)
    with Runner(path, lockstep=True, cycles=100, seed=1) as robot:
        positions = []
        for frame in robot:
            assert frame["joints"].status == "FRESH"
            positions.append(frame["joints"].value["position"].copy())
    assert np.allclose(positions[0], [0.1, -0.1], atol=1e-3)
    assert (np.max(positions, axis=0) > positions[0] + 0.35).all()
