"""The declaration of a driver, before it is opened."""

from typing import Any

import msgspec
import numpy as np
import pytest

from inphase.devices.packets import Parser
from inphase.driver import Exchange, SensorSpec
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.testing.contract.driver_fixtures import BOUNDS, DriverFixtures
from inphase.testing.recorded import channels_of
from inphase.testing.rig import NAME, Rig, runs_free

_OTHERS: tuple[Any, ...] = ({"no": "such"}, "", -1, [])  # no option takes all of these


class DeclarationContract(DriverFixtures):
    """Options, address, sensor, exchange, twin."""

    def test_a_wrong_option_is_refused_with_its_key(self, rig: Rig) -> None:
        """Also an unknown one, and one that is missing."""
        with pytest.raises(ScheduleError, match=rf"device\.{NAME}\.no_such_option"):
            rig.make(no_such_option=1)
        for field in msgspec.structs.fields(self.driver.Options):
            refused = []
            for value in _OTHERS:
                try:
                    rig.make(**{field.encode_name: value})
                except ScheduleError as error:
                    refused.append(str(error))
            assert refused, f"option {field.name} takes anything: give it a type"
            for text in refused:
                assert field.encode_name in text, f"{text!r} does not name {field.encode_name}"
            if field.required:
                with pytest.raises(ScheduleError, match=field.encode_name):
                    rig.make(**{field.encode_name: None})

    def test_the_address_is_there_before_open_and_stays(self, rig: Rig) -> None:
        """Two runtimes on one device are told apart by it."""
        driver = rig.make()
        before = driver.address
        assert before and before == rig.make().address
        driver.open()
        try:
            assert driver.address == before
        finally:
            driver.close()
        assert driver.address == before

    def test_the_sensors_fields_have_names_units_and_plain_types(self, spec: SensorSpec) -> None:
        """And its twin answers every float64 channel."""
        names = [field.name for field in spec.fields]
        assert names and len(set(names)) == len(names), f"fields {names}"
        for field in spec.fields:
            assert field.name.isidentifier(), f"{field.name!r} is no name"
            assert field.channels >= 1, f"{field.name} has shape {field.shape}"
            assert np.dtype(field.dtype).str == field.dtype, f"{field.name}: {field.dtype!r}"
            if field.dtype == "<f8":
                assert field.unit, f"{field.name} has no unit; a number without one has unit 1"
        assert len(spec.twin) == channels_of(spec), "a twin channel per float64 channel"
        assert spec.twin_latency_ns > 0 and spec.twin_jitter_ns >= 0
        assert set(spec.per_joint) <= set(names)
        assert spec.exchange is not None or spec.calls is not None
        if spec.calls is not None:
            assert 0 <= spec.calls.latency_ns <= spec.calls.latency_max_ns

    def test_the_exchange_fits_the_core(self, spec: SensorSpec, exchange: Exchange) -> None:
        """Sizes, offsets, channels and times."""
        Parser(exchange, channels_of(spec))  # raises ValueError for what breaks a bound
        assert len(exchange.request) <= BOUNDS["INPHASE_MAX_PACKET"]
        channels = sorted(v.channel for reply in exchange.replies for v in reply.values)
        assert channels == list(range(channels_of(spec))), "each channel is in the replies once"
        assert len(channels) <= BOUNDS["INPHASE_MAX_VALUES"]
        assert exchange.request_ns >= 0 and exchange.reply_ns >= 0
        assert exchange.reply_max_ns >= exchange.request_ns + exchange.reply_ns

    def test_the_twin_runs_in_lock_step(self, rig: Rig, spec: SensorSpec) -> None:
        """From the same schedule as the device; one that runs by itself takes its time to begin."""
        with LockStep(rig.schedule(), digest=False) as robot:
            statuses = [robot.step()[NAME].status for _ in range(20)]
        begun = statuses.index("FRESH")
        assert statuses == ["MISSING"] * begun + ["FRESH"] * (20 - begun)
        assert begun == 0 or runs_free(spec)
