"""Commands, power, and motion that ends with its runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inphase.devices.packets import encode
from inphase.driver import ActuatorSpec, DeviceError, Driver, StopKind
from inphase.frames import wire
from inphase.host.store_names import note_path
from inphase.testing.contract.driver_fixtures import BOUNDS, DriverFixtures, ask_by_hand
from inphase.testing.contract.motion_policies import (
    FarGoal,
    WalkToZero,
    feedback_of,
    motion_tables,
    moves,
)
from inphase.testing.peer import Peer, able
from inphase.testing.recorded import Recorded
from inphase.testing.rig import NAME, Rig, until, until_at_rest


class MotionContract(DriverFixtures):
    """Commands and power of an actuator."""

    @pytest.fixture
    def actuator(self, rig: Rig) -> ActuatorSpec:
        """The driver's declaration of its actuator."""
        actuator = rig.driver.actuator()
        if actuator is None:
            pytest.skip(f"{self.driver.__name__} has no actuator")
        return actuator

    def test_the_actuator_encodes_every_channel(self, actuator: ActuatorSpec) -> None:
        """A name for its unit, a joint per channel, and bytes that depend on each value."""
        assert actuator.unit
        assert len(actuator.servos) == actuator.channels >= 1
        if actuator.encoding is None:
            pytest.skip(f"{self.driver.__name__} has no encoding: its driver writes by itself")
        rest = encode(actuator.encoding, [0.0] * actuator.channels)
        assert len(rest) <= BOUNDS["INPHASE_MAX_PACKET"]
        for channel in range(actuator.channels):
            values = [0.0] * actuator.channels
            values[channel] = 1.0
            assert encode(actuator.encoding, values) != rest, f"channel {channel} has no effect"

    def test_enabling_does_not_move_it(
        self, device: Peer, rig: Rig, actuator: ActuatorSpec
    ) -> None:
        """It starts from where it is."""
        able(device, "speed")
        driver = rig.make()
        driver.open()
        try:
            driver.enable()
            assert device.speed() <= self.rest
            driver.disable()
        finally:
            driver.close()

    def test_a_silent_member_keeps_no_other_on(
        self, device: Peer, rig: Rig, actuator: ActuatorSpec
    ) -> None:
        """`disable` tries all, and raises at its end."""
        able(device, "mute", "heal", "power")
        driver = rig.make()
        driver.open()
        try:
            driver.enable()
            assert all(device.power())
            device.mute()
            with pytest.raises(DeviceError):
                driver.disable()
            assert sum(device.power()) == 1, f"only the silent one is left on: {device.power()}"
            device.heal()
            driver.disable()
            assert not any(device.power())
        finally:
            driver.close()

    def test_what_holds_already_is_enabled_and_goes_on_holding(
        self, device: Peer, rig: Rig, actuator: ActuatorSpec
    ) -> None:
        """Another program has enabled it, in the same mode."""
        able(device, "power", "speed")
        for _ in range(2):
            driver = rig.make()
            driver.open()
            try:
                assert len(driver.goals()) in (0, actuator.channels)
                driver.enable()
                assert all(device.power()) and device.speed() <= self.rest
            finally:
                driver.close()
            assert all(device.power()), "close takes no power"

    def test_the_torque_that_it_tells_is_that_of_the_device(
        self, device: Peer, rig: Rig, actuator: ActuatorSpec
    ) -> None:
        """After `enable`, and after `disable`. A member may be unknown; none is told wrong."""
        if self.driver.torque is Driver.torque:
            pytest.skip(f"{self.driver.__name__} tells no torque: a run says that it is unknown")
        able(device, "power")
        driver = rig.make()
        driver.open()
        try:
            for change in (driver.enable, driver.disable):
                change()
                told, power = driver.torque(), list(device.power())
                assert len(told) == actuator.channels == len(power)
                pairs = zip(told, power, strict=True)
                assert all(one in (None, bool(on)) for one, on in pairs), (told, power)
            assert not any(told)
        finally:
            driver.close()

    def test_its_watchdog_stops_the_motion_when_the_runtime_is_killed(
        self, device: Peer, running: Rig, actuator: ActuatorSpec
    ) -> None:
        """The joints are sent far, the runtime dies on the way, and they come to rest short of it.

        Afterwards `enable` makes it follow again, from where it stands.
        """
        if actuator.watchdog is None:
            pytest.skip(f"{self.driver.__name__} declares no watchdog: only the guard covers it")
        self._need_positions()
        able(device, "speed")
        feedback = feedback_of(running, actuator)
        go = FarGoal(feedback, self.reach)
        tables = motion_tables(running, feedback, self.reach)
        with running.run(*tables, policy=go) as robot:
            robot.frame(lambda frame: "WRITTEN" in frame.command[NAME].flags, "a command written")
            until(lambda: device.speed() > 2 * self.rest, "the joints move")
            robot.kill(guarded=False)
            until_at_rest(device.speed, self.rest)
        driver = running.make()
        fd = driver.open()
        try:
            here = _measure(driver, fd, feedback)
            assert go.goal is not None
            far = np.abs(go.goal - here).min()
            assert far > self.reach / 10, f"it went on to its goal: {far:g} short of it"
            driver.enable()
            assert device.speed() <= self.rest
            assert np.abs(_measure(driver, fd, feedback) - here).max() < self.reach / 10
            driver.disable()
        finally:
            driver.close()

    def _need_positions(self) -> None:
        if "position" not in self.driver.modes:
            pytest.skip(f"{self.driver.__name__} takes no positions, by which its way is judged")

    def test_the_guard_stops_the_motion_when_the_runtime_is_killed(
        self, device: Peer, running: Rig, actuator: ActuatorSpec
    ) -> None:
        """The joints are on a long way, the runtime dies, and what the driver declares for the
        guard brings them to rest early on it."""
        has_bytes = actuator.encoding is not None or actuator.stop.kind == StopKind.BYTES
        if not has_bytes:
            pytest.skip(f"{self.driver.__name__}: the guard has no bytes")
        self._need_positions()
        able(device, "speed")
        feedback = feedback_of(running, actuator)
        go = WalkToZero(feedback, self.reach)
        tables = motion_tables(running, feedback, self.reach)
        with running.run(*tables, policy=go) as robot:
            until(lambda: device.speed() > 2 * self.rest, "the joints move")
            robot.kill(guarded=True)
            note = Path(note_path(robot.runner.store_path))
            until(lambda: note.exists() and "sent = 3" in note.read_text(), "three stops are sent")
            assert go.start is not None
            until_at_rest(device.speed, self.rest)
            note.unlink()
        driver = running.make()
        fd = driver.open()
        try:
            here = _measure(driver, fd, feedback)
            assert np.abs(here - go.start).max() < self.reach, "it went on to the end of its way"
            driver.disable()
        finally:
            driver.close()

    def test_a_device_that_comes_back_in_motion_is_stopped_before_anything_else(
        self, device: Peer, running: Rig, actuator: ActuatorSpec
    ) -> None:
        """In every mode but a switch's: its cable is drawn on the way and plugged in again. It
        comes to rest without being armed, and no frame says STOPPED before."""
        able(device, "speed", "unplug", "replug")
        feedback = feedback_of(running, actuator)
        for mode in self.driver.modes:
            found = moves(running, mode, feedback, self.reach)
            if found is None:
                continue
            policy, tables = found
            with running.run(*tables, policy=policy) as robot:
                until(lambda: device.speed() > 2 * self.rest, f"the joints move ({mode})")
                device.unplug()
                robot.status("OFFLINE")
                device.replug()
                frame = robot.frame(lambda frame: "STOPPED" in frame.flags, "STOPPED")
                speed = device.speed()
                assert speed <= self.rest, f"{mode}: STOPPED was said at {speed:g} per second"
                assert "LATCHED" in frame.flags
            _switch_off(running)  # what holds is not enabled in another mode


def _switch_off(running: Rig) -> None:
    driver = running.make()
    driver.open()
    try:
        driver.disable()
    finally:
        driver.close()


def _measure(driver: Driver, fd: int, feedback: str) -> Any:
    """Where the joints of an open device are."""
    spec = driver.sensor()
    assert spec is not None
    if spec.exchange is None:
        return ask_by_hand(driver)[feedback].copy()
    sample = np.zeros((), wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields]))
    sample.reshape(1).view("<f8")[:] = Recorded(spec, fd).values
    return sample[feedback].copy()
