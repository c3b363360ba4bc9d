"""Open and close, and devices that are absent, silent or wrong."""

import os
from pathlib import Path

import pytest

from inphase.driver import DeviceError, Driver
from inphase.testing.contract.driver_fixtures import DriverFixtures, ask_by_hand, assert_names
from inphase.testing.peer import Peer, able
from inphase.testing.rig import Rig


class OpeningContract(DriverFixtures):
    """`open` and `close` of a driver."""

    def test_close_may_always_be_called_and_open_again_after_it(self, rig: Rig) -> None:
        """Before `open`, twice, and between two."""
        driver = rig.make()
        driver.close()
        for _ in range(2):
            fd = driver.open()
            assert fd == -1 or not os.get_blocking(fd), "the core needs a non-blocking descriptor"
            driver.close()
            driver.close()

    def test_no_descriptor_is_left_by_open_and_close(self, rig: Rig) -> None:
        """The runtime opens a device again and again while it is gone."""
        driver = rig.make()
        counts = []
        for _ in range(3):
            driver.open()
            driver.close()
            counts.append(len(list(Path("/proc/self/fd").iterdir())))
        assert len(set(counts)) == 1, f"descriptors after each close: {counts}"

    def test_an_absent_device_is_named_with_its_place(self, device: Peer, rig: Rig) -> None:
        """And is found again when it is back."""
        able(device, "unplug", "replug")
        driver = rig.make()
        device.unplug()
        with pytest.raises(DeviceError) as refusal:
            driver.open()
        assert_names(str(refusal.value), device)
        driver.close()
        device.replug()
        driver.open()
        driver.close()

    def test_a_device_that_does_not_answer_is_named_with_its_place(
        self, device: Peer, rig: Rig
    ) -> None:
        """`open` looks whether somebody is there; without an exchange it may be the first read."""
        able(device, "silence", "heal")
        driver = rig.make()
        device.silence()
        with pytest.raises((DeviceError, TimeoutError)) as refusal:
            driver.open()
            ask_by_hand(driver)
        if isinstance(refusal.value, DeviceError):
            assert_names(str(refusal.value), device)
        _heal_and_open(device, driver)

    def test_what_every_cycle_will_ask_is_asked_once_before_power(
        self, device: Peer, rig: Rig
    ) -> None:
        """A device that answers all but that is refused with its place, and nothing has power."""
        able(device, "forget", "heal")
        driver = rig.make()
        device.forget()
        with pytest.raises((DeviceError, TimeoutError)) as refusal:
            driver.open()
            ask_by_hand(driver)
        if isinstance(refusal.value, DeviceError):
            assert_names(str(refusal.value), device)
        assert not any(device.power()), "it has power, and nobody can read it"
        _heal_and_open(device, driver)

    def test_a_wrong_device_is_refused_and_named_with_its_place(
        self, device: Peer, rig: Rig
    ) -> None:
        """Before anything is commanded."""
        able(device, "disguise", "heal")
        driver = rig.make()
        device.disguise()
        with pytest.raises(DeviceError) as refusal:
            driver.open()
        assert_names(str(refusal.value), device)
        _heal_and_open(device, driver)


def _heal_and_open(device: Peer, driver: Driver) -> None:
    """The device is found again when it is well."""
    driver.close()
    device.heal()
    driver.open()
    driver.close()
