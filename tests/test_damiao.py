"""Damiao motors in MIT mode: the driver on the emulator, and clients of somebody else on it."""

import json
import math
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import can
import damiao_motor
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase import packets
from inphase.driver import DeviceError, WrongOption
from inphase.testing import DriverContract, Peer
from inphase_drivers.damiao import DamiaoMotors, DamiaoOptions
from inphase_drivers.damiao.mit import decode
from inphase_drivers.damiao.models import MODELS
from peers import EmulatorProcess, free_port, until

IDS = [1, 2, 3]
KP, KD = 20.0, 1.0
GROUP = "239.74.163.7"
STATE_QUESTION, FEEDBACK, TIMEOUT, MODE, V_MAX = 0xCC, 7, 9, 10, 22
SCHEDULE = """
[emulator]
module = "inphase_drivers.emulator"
[device.arm]
driver = "damiao"
channel = "{channel}"
ids = [1, 2, 3]
models = "DM4310"
start_position = [0.2, -0.3, 0.4]
"""


class MitPeer(Peer):
    """Three emulated motors on a bus of their own."""

    wire = "channel"

    def __init__(self, folder: Path, channel: str = "") -> None:
        channel = channel or str(folder / "can0")
        path = folder / "robot.toml"
        path.write_text(SCHEDULE.format(channel=channel))
        self.emulator = EmulatorProcess().start(path)
        self.options = {"channel": channel, "ids": IDS, "models": "DM4310", "kp": KP, "kd": KD}

    @property
    def place(self) -> str:
        return str(self.options["channel"])

    def arm(self, **request: Any) -> dict[str, Any]:
        """Ask the emulator's control channel; the motors by their ids."""
        found: dict[str, Any] = self.emulator.control({"device": "arm", **request})["motors"]
        return found

    def silence(self) -> None:
        self.arm(silent=True)

    def mute(self) -> None:
        self.arm(motor=2, silent=True)

    def forget(self) -> None:
        self.arm(motor=2, mute=STATE_QUESTION)

    def disguise(self) -> None:
        self.arm(motor=2, register=[V_MAX, 45.0])

    def heal(self) -> None:
        self.arm(power=True, silent=False, mute=None, register=[V_MAX, 30.0])
        for ident in IDS:
            self.arm(motor=ident, register=[FEEDBACK, ident + 16])

    def unplug(self) -> None:
        self.arm(port=False)

    def replug(self) -> None:
        self.arm(port=True)

    def asked(self) -> int:
        return int(self.arm()["1"]["asked"])

    def power(self) -> list[bool]:
        return [motor["state"] == 1 for motor in self.arm().values()]

    def speed(self) -> float:
        return max(abs(motor["velocity"]) for motor in self.arm().values())


@pytest.fixture(scope="module")
def motors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MitPeer]:
    """One process for the tests of this file."""
    peer = MitPeer(tmp_path_factory.mktemp("motors"))
    yield peer
    peer.emulator.stop()


@pytest.fixture
def peer(motors: MitPeer) -> MitPeer:
    """The motors without power until now, and as delivered."""
    motors.arm(power=False, load=0.0)
    motors.heal()
    return motors


@pytest.mark.real
@pytest.mark.long
class TestDamiao(DriverContract):
    driver = DamiaoMotors

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[MitPeer]:
        peer = MitPeer(tmp_path)
        # so soft that a motion outlives the time-out, which outlives questions to a silent motor
        peer.options |= {"kp": 5.0, "kd": 2.0, "watchdog_ms": 450}
        yield peer
        peer.emulator.stop()


def driver_of(options: dict[str, Any], mode: str = "position") -> DamiaoMotors:
    driver = DamiaoMotors("arm", msgspec.convert(options, DamiaoOptions))
    driver.mode = mode
    return driver


@pytest.fixture
def opened(peer: MitPeer) -> Iterator[DamiaoMotors]:
    driver = driver_of(peer.options | {"watchdog_ms": 10_000})
    driver.open()
    yield driver
    driver.close()


# ---- bytes, against the package damiao-motor -------------------------------------------------


class NoBus:
    """damiao-motor asks for a bus that its frames go to; these are only looked at."""


def their_motor(model: str) -> damiao_motor.DaMiaoMotor:
    return damiao_motor.DaMiaoMotor(1, 17, NoBus(), motor_type=model.removeprefix("DM"))


def fields(data: bytes) -> list[int]:
    """Position, velocity, stiffness, damping and torque of an MIT frame."""
    bits = int.from_bytes(data, "big")
    return [bits >> 48, *(bits >> at & 0xFFF for at in (36, 24, 12, 0))]


@given(
    st.sampled_from(["DM4310", "DM4340", "DM8009", "DM10010L"]),
    st.sampled_from(["position", "velocity", "effort"]),
    st.floats(-1.2, 1.2),
    st.integers(1, 4095),
    st.integers(1, 4095),
)
def test_our_frames_are_theirs_but_for_rounding(
    model: str, mode: str, part: float, kp: int, kd: int
) -> None:
    """They cut numbers off, and we take the nearest: ours is the same, or one more."""
    stiffness, damping = 500 * kp / 4095, 5 * kd / 4095
    options: dict[str, Any] = {"channel": "can0", "ids": [1], "models": model, "kd": damping}
    options |= {"kp": stiffness}
    driver = driver_of(options, mode)
    value = part * MODELS[model][("position", "velocity", "effort").index(mode)]
    ours = packets.encode(driver.actuator().encoding, [value])
    theirs = their_motor(model).encode_cmd_msg(
        *(value if name == mode else 0.0 for name in ("position", "velocity", "effort")),
        stiffness if mode == "position" else 0.0,
        0.0 if mode == "effort" else damping,
    )
    assert len(ours) == 16
    assert struct.unpack("=I", ours[:4]) == (1,)
    more = [a - b for a, b in zip(fields(ours[8:]), fields(theirs), strict=True)]
    assert set(more) <= {0, 1}


@given(st.binary(min_size=5, max_size=5), st.sampled_from(["DM4310", "DM8009"]))
def test_their_reading_of_a_reply_is_ours(values: bytes, model: str) -> None:
    data = bytes([0x11]) + values + bytes([28, 31])
    theirs = their_motor(model).decode_sensor_feedback(data)
    ours = decode(1, MODELS[model], data)
    assert ours == pytest.approx([theirs[name] for name in ("pos", "vel", "torq")], abs=1e-9)


def test_the_known_models_are_theirs() -> None:
    for name, ranges in MODELS.items():
        motor = their_motor(name)
        assert (motor._p_max, motor._v_max, motor._t_max) == ranges


# ---- clients of somebody else ----------------------------------------------------------------


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[MitPeer, int]]:
    """The motors on UDP multicast, where python-can's clients are; the port."""
    port = free_port(socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trying:
        try:
            member = socket.inet_aton(GROUP) + socket.inet_aton("0.0.0.0")
            trying.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError as error:
            pytest.skip(f"UDP multicast to {GROUP}: {error}; a route for it is missing")
    monkeypatch.setenv("CAN_CONFIG", json.dumps({"port": port}))
    peer = MitPeer(tmp_path, f"{GROUP}:{port}")
    yield peer, port
    peer.emulator.stop()


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:The 'bustype' argument:DeprecationWarning")
def test_the_package_damiao_motor_moves_the_emulated_motors(group: tuple[MitPeer, int]) -> None:
    peer, _ = group
    controller = damiao_motor.DaMiaoController(channel=GROUP, bustype="udp_multicast")
    try:
        motors = [controller.add_motor(one, one + 16, "4310") for one in IDS]
        # UDP multicast gives it its own questions back, which look like replies of 0
        for motor in motors:
            for register, value in ((FEEDBACK, motor.feedback_id), (21, 12.5), (MODE, 1)):
                motor.request_register_reading(register)
                until(lambda m=motor, r=register, v=value: m.registers.get(r) == v)
        motors[0].set_can_timeout(60_000)
        for motor in motors:
            motor.ensure_control_mode("MIT")
            motor.enable()
        until(lambda: all(m.get_states().get("status") == "ENABLED" for m in motors))

        goals = [0.6, -0.7, 0.1]

        def are_there() -> bool:
            for motor, goal in zip(motors, goals, strict=True):
                motor.send_cmd_mit(goal, 0.0, KP, KD, 0.0)
            return all(
                abs(motor.get_states()["pos"] - goal) < 0.01
                for motor, goal in zip(motors, goals, strict=True)
            )

        until(are_there)
        assert [one["position"] for one in peer.arm().values()] == pytest.approx(goals, abs=0.02)
        assert peer.arm()["1"]["registers"][str(TIMEOUT)] == 60_000 * 20
        controller.disable_all()
        until(lambda: peer.power() == [False] * 3)
        peer.arm(motor=2, state=0xD)
        motors[1].set_zero_command()
        until(lambda: motors[1].get_states()["status"] == "LOST_COMM")
    finally:
        controller.shutdown()


@pytest.mark.real
def test_a_second_package_moves_them_too(group: tuple[MitPeer, int]) -> None:
    dm4310 = pytest.importorskip(
        "fastgripper_dm.damiao.dm4310", reason="fastgripper-dm is missing: make damiao-test"
    )
    peer, port = group
    with can.Bus(interface="udp_multicast", channel=GROUP, port=port) as bus:
        motor = dm4310.DM4310(bus, can_id=3, master_id=19)
        motor.enable()
        assert motor.read_feedback().error == 1

        def is_there() -> bool:
            motor.mit_control(-0.4, 0.0, KP, KD, 0.0)
            feedback = motor.read_feedback()
            return bool(feedback is not None and abs(feedback.position + 0.4) < 0.01)

        until(is_there)
        assert peer.arm()["3"]["position"] == pytest.approx(-0.4, abs=0.02)
        motor.disable()
        until(lambda: peer.power() == [False] * 3)


# ---- the driver on the emulated motors -------------------------------------------------------


@pytest.mark.real
def test_a_motor_begins_where_it_is(peer: MitPeer, opened: DamiaoMotors) -> None:
    before = [one["position"] for one in peer.arm().values()]
    opened.enable()
    assert opened.goals() == pytest.approx(before, abs=1e-3)
    after = peer.arm()
    assert [one["target"][0] for one in after.values()] == pytest.approx(before, abs=1e-3)
    assert [one["state"] for one in after.values()] == [1, 1, 1]
    assert [one["registers"][str(TIMEOUT)] for one in after.values()] == [10_000 * 20] * 3
    opened.disable()
    assert peer.power() == [False] * 3


@pytest.mark.real
def test_a_motor_that_holds_a_load_goes_on_so(peer: MitPeer, opened: DamiaoMotors) -> None:
    """Its goal cannot be read: the torque that it has says it."""
    opened.enable()
    peer.arm(load=-2.0)
    until(lambda: abs(peer.arm()["1"]["position"] - 0.1) < 0.01 and peer.speed() < 0.01)
    opened.close()
    again = driver_of(peer.options | {"kp": 2 * KP, "watchdog_ms": 0})
    again.open()
    try:
        hung = [one["position"] for one in peer.arm().values()]
        again.enable()
        # 2 N m at the doubled stiffness: half as far beyond
        assert again.goals() == pytest.approx([one + 2.0 / (2 * KP) for one in hung], abs=2e-3)
        assert [one["position"] for one in peer.arm().values()] == pytest.approx(hung, abs=5e-3)
        assert again.torque() == (True, True, True), "without a time-out it holds on"
        assert [one["registers"][str(TIMEOUT)] for one in peer.arm().values()] == [0] * 3
    finally:
        again.close()


@pytest.mark.real
def test_its_own_time_out_lets_go(peer: MitPeer) -> None:
    driver = driver_of(peer.options | {"watchdog_ms": 40})
    driver.open()
    try:
        driver.enable()
        until(lambda: all(one["state"] == 0xD for one in peer.arm().values()))
        assert driver.meaning(0xD2) == "motor 2: it had no command within its time-out"
        told = driver.faults()
        assert len(told) == 3
        assert "no command within its time-out" in told[0]
        assert "watchdog_ms" in told[0]
        driver.enable()
        assert peer.power() == [True] * 3, "it let go, and may be enabled again"
    finally:
        driver.close()


@pytest.mark.real
@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ({"motor": 2, "power": False}, r"motor 2 on .*no answer .*register 7.*is it powered"),
        ({"motor": 2, "register": [7, 5]}, r"motor 2 .*answers under 0x005.*says 0x012.*feedback"),
        ({"motor": 3, "register": [22, 45.0]}, r"motor 3 .*register 22 is 45, .* 30.*ranges = \["),
        ({"motor": 1, "state": 0xC}, r"motor 1 .*winding is too hot.*let it cool down"),
        ({"motor": 1, "mute": 0xCC}, r"motor 1 .*not with its state \(0xcc.*firmware"),
    ],
)
def test_what_does_not_fit_is_refused(peer: MitPeer, trouble: dict[str, Any], told: str) -> None:
    peer.arm(**trouble)
    driver = driver_of(peer.options)
    with pytest.raises(DeviceError, match=told):
        driver.open()
    assert peer.power() == [False] * 3


@pytest.mark.real
def test_a_motor_that_holds_in_another_mode_is_left_alone(
    peer: MitPeer, opened: DamiaoMotors
) -> None:
    peer.arm(motor=2, state=1, register=[MODE, 2])
    with pytest.raises(DeviceError, match=r"motor 2 .*holds in control mode 2.*MIT mode is 1"):
        opened.enable()
    assert peer.power() == [False, True, False]
    opened.disable()
    assert peer.power() == [False, True, False], "it held before we came"


def test_a_fault_in_a_reply_is_no_sample_and_says_which_motor() -> None:
    driver = driver_of({"channel": "can0", "ids": IDS, "models": "DM4310"})
    exchange = driver.sensor().exchange
    assert exchange is not None
    parser = packets.Parser(exchange, 5 * len(IDS))
    good = bytes([0, 0x80, 0, 0x80, 8, 0, 28, 31])
    assert parser.feed(packets.can_frame(17, bytes([0x11]) + good[1:])) is None
    assert parser.feed(packets.can_frame(19, bytes([0x13]) + good[1:])) is None
    with pytest.raises(packets.RefusedReply) as refused:
        parser.feed(packets.can_frame(18, bytes([0xC2]) + good[1:]))
    assert (refused.value.reason, refused.value.detail) == ("device", 0xC2)
    assert driver.meaning(0xC2) == "motor 2: its winding is too hot"
    # another motor under this id
    parser.reset()
    with pytest.raises(packets.RefusedReply, match="mismatch"):
        parser.feed(packets.can_frame(18, bytes([0x13]) + good[1:]))


# ---- options ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "mode", "key", "told"),
    [
        ({"kp": 0.0}, "position", "kp", "it is 0.0, and a position moves nothing"),
        ({"kp": [20.0, 0.0, 20.0]}, "position", "kp", "above 0 for each motor"),
        ({"kp": None}, "position", "kp", "it is missing"),
        ({"kd": 0.0}, "position", "kd", "swings"),
        ({"kp": None, "kd": 0.0}, "velocity", "kd", "does not follow"),
    ],
)
def test_a_mode_without_its_gains_is_refused(
    keys: dict[str, Any], mode: str, key: str, told: str
) -> None:
    options = {"channel": "can0", "ids": IDS, "models": "DM4310", "kp": KP, "kd": KD} | keys
    driver = driver_of({k: v for k, v in options.items() if v is not None}, mode)
    with pytest.raises(WrongOption, match=told) as wrong:
        driver.actuator()
    assert wrong.value.key == key


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"ids": [1, 1]}, "ids must be different"),
        ({"feedback_ids": [0, 0, 0]}, "feedback_ids must be different.*registers 7 and 8"),
        ({"feedback_ids": [17, 2, 19]}, "are ids of motors"),
        ({"models": "DM9"}, "DM9 is none of DM3507"),
        ({"models": ["DM4310"]}, "one for each of the 3 motors, got 1"),
        ({"kp": 501.0}, "kp is 0 to 500"),
        ({"kd": [1.0, 6.0, 1.0]}, "kd is 0 to 5"),
        ({"ranges": [[12.5, 0.0, 10.0]] * 3}, "ranges are above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(keys: dict[str, Any], told: str) -> None:
    options = {"channel": "can0", "ids": IDS, "models": "DM4310"} | keys
    with pytest.raises(msgspec.ValidationError, match=told):
        driver_of(options)


def test_a_bus_that_is_not_there_is_told_with_what_helps(tmp_path: Path) -> None:
    options = {"channel": str(tmp_path / "none"), "ids": IDS, "models": "DM4310"}
    with pytest.raises(DeviceError, match=r"cannot open CAN bus .*none: No such file.*start"):
        driver_of(options).open()
    with pytest.raises(DeviceError, match=r"cannot open CAN bus can77: .*sudo "):
        driver_of(options | {"channel": "can77"}).open()


def test_zero_is_as_near_as_twelve_bits_are() -> None:
    """A velocity of 0 has no number of its own: the nearest is half a step away."""
    options = {"channel": "can0", "ids": [1], "models": "DM4310", "kd": 1.0}
    driver = driver_of(options, "velocity")
    data = packets.encode(driver.actuator().encoding, [0.0])[8:]
    step = 2 * 30.0 / 4095
    assert fields(data)[1] * step - 30.0 == pytest.approx(step / 2)
    assert math.isclose(step / 2, 0.0073, abs_tol=1e-4)
