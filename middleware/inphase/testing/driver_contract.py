"""The contract that every driver keeps, as a pytest class to inherit; needs `inphase[testing]`.

    class TestServos(DriverContract):
        driver = Servos

        @pytest.fixture
        def device(self, tmp_path):
            with ServosPeer(tmp_path) as peer:
                yield peer

`device` starts a `Peer`, which answers for the device. It is an emulator in a process of its own,
or the device itself on a bench, free to move. A test that needs an ability which the peer lacks is
a skip that names it. Tests in real time run in the real runtime, on a schedule with this one
device.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from inphase.devices.packets import Parser, encode
from inphase.driver import (
    Acquire,
    ActuatorSpec,
    DeviceError,
    Driver,
    Exchange,
    SensorSpec,
    StopKind,
)
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.frames import wire
from inphase.frames.frame import Frame, Sample
from inphase.host.store_names import note_path
from inphase.schedule.document import toml_table
from inphase.testing.comparison import assert_same_frames
from inphase.testing.device_proxy import NoProxyError, Replayed, proxy_of
from inphase.testing.fault_plan import Fault, fault_plan
from inphase.testing.fixtures import lockstep
from inphase.testing.peer import Peer, able
from inphase.testing.recorded import Recorded, channels_of, feed
from inphase.testing.rig import NAME, Rig, Watched, path_for_children, runs_free, until

__all__ = ["DriverContract", "Fault", "Peer", "assert_same_frames", "fault_plan", "lockstep"]

_BOUNDS = {"INPHASE_MAX_PACKET": 1024, "INPHASE_MAX_CHANNELS": 64}
_BURST = 20  # samples that a device or its link gives at once
_LOST = {"LATE", "MISSING", "OFFLINE"}
_PATIENCE = 10  # how many worst cases a test waits for a sample
_NOISE = bytes((37 * index + 11) & 0xFF for index in range(23))
_OTHERS: tuple[Any, ...] = ({"no": "such"}, "", -1, [])  # no option takes all of these


class DriverContract:
    """The tests of every driver. Inherit it, set `driver`, define the fixture `device`."""

    driver: ClassVar[type[Driver]]
    replugs: ClassVar[int] = 6
    """how often the device is unplugged and comes back"""
    reach: ClassVar[float] = 2.0
    """how far its joints may be sent in the watchdog's test, in the actuator's unit; the watchdog
    is seen by this motion not getting there"""
    homes: ClassVar[tuple[str, ...]] = ("cycle", "process")
    """where the driver runs in the runtime's tests; one with an exchange runs in all of them"""
    rest: ClassVar[float] = 0.05
    """the largest measured speed of a joint at rest, in the actuator's unit per second"""

    # ---- fixtures ------------------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test in the runtime, in each home."""
        if "running" in metafunc.fixturenames:
            assert metafunc.cls is not None
            metafunc.parametrize("running", metafunc.cls.homes, indirect=True)

    @pytest.fixture
    def device(self) -> Iterator[Peer]:
        """The peer that answers for the device; every subclass has its own."""
        pytest.skip(f"{type(self).__name__} has no fixture device")

    @pytest.fixture
    def rig(self, device: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
        """A runtime's schedule around the device."""
        monkeypatch.setenv("PYTHONPATH", path_for_children(self.driver))
        return Rig(tmp_path, self.driver, device.options)

    @pytest.fixture
    def running(self, rig: Rig, request: pytest.FixtureRequest) -> Rig:
        """The same, with the driver in one of its homes."""
        spec = rig.driver.sensor()
        assert spec is not None
        if request.param == "cycle" and spec.exchange is None:
            pytest.skip(f"{self.driver.__name__} has no exchange: it runs in no cycle")
        rig.home = request.param
        return rig

    @pytest.fixture
    def spec(self, rig: Rig) -> SensorSpec:
        """The driver's declaration of its sensor, before it was opened."""
        spec = rig.driver.sensor()
        if spec is None:
            pytest.skip(f"{self.driver.__name__} has no sensor")
        return spec

    @pytest.fixture
    def exchange(self, spec: SensorSpec) -> Exchange:
        """Its exchange."""
        if spec.exchange is None:
            pytest.skip(f"{self.driver.__name__} has no exchange: its driver reads by itself")
        return spec.exchange

    @pytest.fixture
    def reply(self, device: Peer, rig: Rig, spec: SensorSpec) -> Iterator[Recorded | Replayed]:
        """A whole reply of the device, byte by byte as it came."""
        if spec.exchange is None:
            yield from self._replayed(device, rig, spec)
            return
        driver = rig.make()
        fd = driver.open()
        try:
            now = driver.sensor()
            assert now is not None
            recorded = Recorded(now, fd)
        finally:
            driver.close()
        yield recorded

    def _replayed(self, device: Peer, rig: Rig, spec: SensorSpec) -> Iterator[Replayed]:
        try:
            proxy = proxy_of(device, rig.driver.address, rig.folder / "proxy")
        except NoProxyError as refused:
            pytest.skip(str(refused))
        with proxy:
            driver = rig.make(**proxy.options)
            driver.open()
            try:
                yield Replayed(driver, spec, proxy)
            except NoProxyError as refused:
                pytest.skip(str(refused))
            finally:
                driver.close()

    # ---- what a driver says --------------------------------------------------------------

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
        assert len(exchange.request) <= _BOUNDS["INPHASE_MAX_PACKET"]
        channels = sorted(v.channel for reply in exchange.replies for v in reply.values)
        assert channels == list(range(channels_of(spec))), "each channel is in the replies once"
        assert len(channels) <= _BOUNDS["INPHASE_MAX_CHANNELS"]
        assert exchange.request_ns >= 0 and exchange.reply_ns >= 0
        assert exchange.reply_max_ns >= exchange.request_ns + exchange.reply_ns

    def test_the_twin_runs_in_lock_step(self, rig: Rig, spec: SensorSpec) -> None:
        """From the same schedule as the device; one that runs by itself takes its time to begin."""
        with LockStep(rig.schedule(), digest=False) as robot:
            statuses = [robot.step()[NAME].status for _ in range(20)]
        begun = statuses.index("FRESH")
        assert statuses == ["MISSING"] * begun + ["FRESH"] * (20 - begun)
        assert begun == 0 or runs_free(spec)

    # ---- open and close ------------------------------------------------------------------

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
        _assert_names(str(refusal.value), device)
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
            _ask_by_hand(driver)
        if isinstance(refusal.value, DeviceError):
            _assert_names(str(refusal.value), device)
        driver.close()
        device.heal()
        driver.open()
        driver.close()

    def test_a_wrong_device_is_refused_and_named_with_its_place(
        self, device: Peer, rig: Rig
    ) -> None:
        """Before anything is commanded."""
        able(device, "disguise", "heal")
        driver = rig.make()
        device.disguise()
        with pytest.raises(DeviceError) as refusal:
            driver.open()
        _assert_names(str(refusal.value), device)
        driver.close()
        device.heal()
        driver.open()
        driver.close()

    # ---- framing -------------------------------------------------------------------------

    def test_a_reply_is_the_same_at_every_split_point(self, reply: Recorded | Replayed) -> None:
        """And byte by byte. A datagram or a frame is whole or refused. A driver that reads by
        itself is played the device's own reply, on its own wire."""
        if not reply.is_packets:
            for at in range(1, len(reply.data)):
                assert reply.parse(reply.data[:at], reply.data[at:]) == reply.values, f"cut at {at}"
            single = (reply.data[at : at + 1] for at in range(len(reply.data)))
            assert reply.parse(*single) == reply.values
            return
        assert reply.parse(*reply.parts) == reply.values
        for part in reply.parts:
            for at in range(1, len(part)):
                assert reply.refuse(part[:at]) is None, f"the first {at} bytes"
                assert reply.refuse(part[at:]) is None, f"all but the first {at} bytes"

    def test_a_truncated_reply_is_no_sample_and_the_next_one_is(
        self, reply: Recorded | Replayed
    ) -> None:
        """Wherever it ends."""
        *before, last = reply.parts if reply.is_packets else [reply.data]
        for size in range(len(last)):
            found, later = reply.after(*before, last[:size])
            assert found is None, f"{size} bytes of {len(last)}"
            # the packet that was cut may swallow the next one's first bytes
            assert reply.values in later, f"after {size} bytes: {later}"
            assert all(values in (None, reply.values) for values in later)

    def test_garbage_around_a_reply_is_dropped(self, reply: Recorded | Replayed) -> None:
        """Before it and after it. It may cost a driver that reads by itself this reply, never the
        next ones."""
        if reply.is_packets:
            pytest.skip("its replies are datagrams or frames, which have nothing around them")
        if isinstance(reply, Replayed):
            for parts in ((_NOISE, reply.data), (_NOISE + reply.data,), (reply.data + _NOISE,)):
                found, later = reply.after(*parts)
                assert found in (None, reply.values), "a value that nobody sent"
                assert later[-1] == reply.values, f"after garbage: {later}"
            return
        assert reply.parse(_NOISE, reply.data) == reply.values
        assert reply.parse(_NOISE + reply.data) == reply.values
        assert reply.parse(reply.start + reply.data) == reply.values, "a start without its rest"
        parser = reply.parser()
        for _ in range(3):
            assert feed(parser, reply.data + _NOISE) == reply.values

    def test_a_damaged_reply_is_no_sample(self, reply: Recorded | Replayed) -> None:
        """Every bit turned, and garbage inside at every place; only where there is a checksum."""
        if isinstance(reply, Replayed):
            pytest.skip(f"{self.driver.__name__} has no exchange that declares a checksum")
        if not reply.has_checksum:
            pytest.skip("the device's replies have no checksum")
        for at in range(8 * len(reply.data)):
            damaged = bytearray(reply.data)
            damaged[at // 8] ^= 1 << at % 8
            assert reply.parse_like(bytes(damaged)) is None, f"bit {at % 8} of byte {at // 8}"
        if not reply.is_packets and reply.packets == 1:
            for at in range(1, len(reply.data)):
                inside = reply.data[:at] + _NOISE + reply.data[at:]
                assert reply.parse(inside) is None, f"garbage at byte {at}"

    # ---- in the runtime ------------------------------------------------------------------

    def test_stamps_are_in_order_and_fresh_is_of_this_cycle(self, running: Rig) -> None:
        """And sequences advance, one for each sample."""
        spec = running.driver.sensor()
        assert spec is not None
        model = spec.exchange or spec.calls
        assert model is not None
        lead_ns = min(0, model.acquire_ns)  # a device that samples by itself, before it is asked
        fresh, before = 0, -1
        with running.run() as robot:
            while fresh < 50:
                frame = robot.frame(lambda frame: frame[NAME].sequence >= 0, "a sample")
                sample = frame[NAME]
                assert sample.sequence >= before, "sequences go on"
                if sample.status == "FRESH":
                    assert sample.sequence > before, "a fresh sample is a new one"
                    _assert_stamps(frame, spec, lead_ns)
                    if sample.acquired_ns is None:
                        assert model.acquire == Acquire.ABSENT, "a model that is not applied"
                    fresh += 1
                before = sample.sequence

    def test_the_device_was_asked_once_for_each_sample_and_each_miss(
        self, device: Peer, running: Rig
    ) -> None:
        """Its own count against ours."""
        able(device, "asked")
        spec = running.driver.sensor()
        if spec is not None and runs_free(spec):
            pytest.skip(f"{self.driver.__name__} asks for nothing: its device runs by itself")
        start = device.asked()
        driver = running.make()
        driver.open()
        driver.close()
        opened = device.asked()
        opening = opened - start
        last = -1
        with running.run(cycles=60) as robot:
            for frame in robot.runner:
                last = frame[NAME].sequence
        summary = robot.runner.summary
        assert summary is not None
        asked = device.asked() - opened - opening
        samples, cycles = last + 1, summary["cycles"] + summary["stopping_cycles"]
        assert samples <= asked, f"{samples} samples, {asked} asked"
        if robot.worker is not None:  # it also fires until one pulse is confirmed
            assert asked == robot.worker["pulses"] >= robot.worker["readings"]
        else:
            assert asked <= cycles, f"{asked} asked in {cycles} cycles"
            if summary["sensors"][NAME]["status"]["FRESH"] == cycles:
                assert samples == asked == cycles

    def test_silence_gives_no_sample_and_says_so(self, device: Peer, running: Rig) -> None:
        """LATE, then MISSING, with the last sample named; then it goes on."""
        able(device, "silence", "heal")
        with running.run() as robot:
            robot.status("FRESH")
            device.silence()
            first = robot.status("LATE", "MISSING")
            gone = robot.status("MISSING")
            assert gone.sequence >= first.sequence >= 0, "the last good sample is still named"
            for sample in robot.samples(10):
                assert (sample.status, sample.sequence) == ("MISSING", gone.sequence)
            device.heal()
            assert robot.status("FRESH").sequence > gone.sequence

    def test_damaged_replies_give_no_sample(self, device: Peer, running: Rig) -> None:
        """For any damage."""
        able(device, "spoil", "heal")
        with running.run() as robot:
            robot.status("FRESH")
            device.spoil()
            bad = robot.status("INVALID", "LATE", "MISSING")
            for sample in robot.samples(10):
                assert sample.status in {"INVALID", "LATE", "MISSING"}, sample.status
                assert sample.sequence == bad.sequence
            device.heal()
            assert robot.status("FRESH").sequence > bad.sequence

    def test_after_a_stall_fresh_is_of_its_own_trigger(self, device: Peer, running: Rig) -> None:
        """The held back bytes come at once, or piece by piece, and answer no later trigger."""
        able(device, "stall", "heal", "taken_ns")
        spec = running.driver.sensor()
        free = spec is not None and runs_free(spec)
        with running.run() as robot:
            for cycles in (1, 2, 5):
                robot.status("FRESH")
                device.stall()
                robot.now()
                if free:  # what came before may still be on its way through a worker
                    robot.status("HELD", *_LOST)
                for sample in robot.samples(cycles):
                    told = f"{sample.status} while the device stands still"
                    assert free or sample.status in _LOST, told
                device.heal()
                _assert_each_is_its_own(device, robot)

    def test_a_backlog_never_becomes_a_lag(self, device: Peer, running: Rig) -> None:
        """For a free-running device the newest sample counts, and those before it are handed on or
        counted. For a device that is asked, samples that answer nothing are left out."""
        able(device, "flood", "taken_ns")
        spec = running.driver.sensor()
        assert spec is not None
        if runs_free(spec):
            self._assert_the_newest_counts(device, running)
            return
        with running.run() as robot:
            for _ in range(3):
                robot.status("FRESH")
                device.flood(_BURST)
                _assert_each_is_its_own(device, robot)

    def _assert_the_newest_counts(self, device: Peer, running: Rig) -> None:
        able(device, "silence")
        with running.run() as robot:
            robot.status("FRESH")
            device.silence()
            before = _newest(device, robot, device.flood(1))
            at_once = _newest(device, robot, device.flood(_BURST))
            for number in range(1, 6):
                sample = _newest(device, robot, device.flood(1))
                assert sample.sequence == at_once.sequence + number, "each is handed on"
        handed_on = at_once.sequence - before.sequence
        told = f"{handed_on} handed on, {robot.passed} counted"
        assert handed_on <= _BURST <= handed_on + robot.passed, told

    def test_unplugged_is_offline_and_it_comes_back(self, device: Peer, running: Rig) -> None:
        """OFFLINE, RECOVERING, FRESH, again and again; no descriptor is left behind."""
        able(device, "unplug", "replug")
        counts = []
        with running.run() as robot:
            before = robot.status("FRESH")
            for _ in range(self.replugs):
                device.unplug()
                gone = robot.status("OFFLINE")
                assert gone.sequence >= before.sequence, "the last good sample is still named"
                device.replug()
                robot.status("RECOVERING")
                before = robot.status("FRESH")
                assert before.sequence > gone.sequence
                counts.append(robot.descriptors())
        assert len(set(counts)) == 1, f"descriptors after each return: {counts}"

    # ---- motion --------------------------------------------------------------------------

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
        assert len(rest) <= _BOUNDS["INPHASE_MAX_PACKET"]
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
        feedback = _feedback(running, actuator)
        go = _Go(feedback, self.reach)
        tables = _motion_tables(feedback, self.reach)
        with running.run(*tables, policy=go) as robot:
            robot.frame(lambda frame: "WRITTEN" in frame.command[NAME].flags, "a command written")
            until(lambda: device.speed() > 2 * self.rest, "the joints move")
            robot.kill(guarded=False)
            until(lambda: device.speed() <= self.rest, "the joints come to rest")
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
        feedback = _feedback(running, actuator)
        go = _Walk(feedback, self.reach)
        tables = _motion_tables(feedback, self.reach)
        with running.run(*tables, policy=go) as robot:
            until(lambda: device.speed() > 2 * self.rest, "the joints move")
            robot.kill(guarded=True)
            note = Path(note_path(robot.runner.store_path))
            until(lambda: note.exists() and "sent = 3" in note.read_text(), "three stops are sent")
            assert go.start is not None
            until(lambda: device.speed() <= self.rest, "the joints come to rest")
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
        feedback = _feedback(running, actuator)
        for mode in self.driver.modes:
            moves = _moves(running, mode, feedback, self.reach)
            if moves is None:
                continue
            policy, tables = moves
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


# ---- what is asserted ----------------------------------------------------------------------


def _assert_names(text: str, device: Peer) -> None:
    assert NAME in text, f"{text!r} does not name the device, {NAME}"
    assert device.place in text, f"{text!r} does not name the place, {device.place}"


def _assert_stamps(frame: Frame, spec: SensorSpec, lead_ns: int) -> None:
    sample = frame[NAME]
    assert sample.received_ns is not None and sample.received_ns <= frame.latched_ns
    if runs_free(spec):
        assert (sample.triggered_ns, sample.cycle) == (None, None), "no trigger gave it"
    else:
        assert sample.triggered_ns is not None
        assert frame.due_ns <= sample.triggered_ns <= sample.received_ns
        assert sample.cycle == frame.cycle, "fresh is of this cycle's trigger"
        if sample.acquired_ns is not None:
            early_ns = sample.triggered_ns + lead_ns - sample.acquired_ns
            assert early_ns <= sample.uncertainty_ns, "acquired before it was asked for"
    if sample.acquired_ns is not None:
        late_ns = sample.acquired_ns - sample.received_ns
        assert late_ns <= sample.uncertainty_ns, "acquired after it arrived"
        assert sample.age_ns == frame.latched_ns - sample.acquired_ns


def _assert_each_is_its_own(device: Peer, robot: Watched) -> None:
    """That the next fresh samples answer their own trigger."""
    before_ns = 0
    for _ in range(10):
        sample = robot.status("FRESH")
        value = sample.value.copy()
        if not sample.intact:
            continue  # this process was held up for longer than the ring keeps a sample
        taken_ns = device.taken_ns(value)
        assert taken_ns >= before_ns, "samples come in their order"
        before_ns = taken_ns
        if sample.triggered_ns is not None:
            early_ns = sample.triggered_ns - taken_ns
            assert early_ns <= 0, f"FRESH, and asked for {early_ns / 1e6:g} ms before its trigger"


def _newest(device: Peer, robot: Watched, taken_ns: int) -> Sample:
    """The fresh sample that was taken at this time."""

    def is_it(frame: Frame) -> bool:
        sample = frame[NAME]
        return sample.status == "FRESH" and device.taken_ns(sample.value.copy()) == taken_ns

    return robot.frame(is_it, "the newest sample")[NAME]


def _ask_by_hand(driver: Driver) -> Any:
    """One sample of an open driver that reads by itself, as a worker would have it."""
    spec = driver.sensor()
    assert spec is not None and spec.calls is not None, "open found a device that does not answer"
    sample = np.zeros((), wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields]))
    driver.start()
    driver.flush()
    if spec.calls.triggered:
        driver.trigger()
    driver.read(sample, _PATIENCE * spec.calls.latency_max_ns)
    return sample


# ---- motion --------------------------------------------------------------------------------


class _Go:
    """A policy that sends every joint `reach` away, towards zero, from where it first is."""

    def __init__(self, feedback: str, reach: float) -> None:
        self.goal: np.ndarray[Any, Any] | None = None
        self._feedback = feedback
        self._reach = reach

    def __call__(self, frame: Frame) -> Any:
        sample = frame[NAME]
        if self.goal is None:
            if sample.status != "FRESH":
                return None
            here = sample.value[self._feedback].copy()
            self.goal = here - np.copysign(self._reach, here)
        return self.goal


class _Walk:
    """A policy that walks every joint towards zero, `reach` in two seconds."""

    def __init__(self, feedback: str, reach: float) -> None:
        self.start: np.ndarray[Any, Any] | None = None
        self._feedback = feedback
        self._reach = reach

    def __call__(self, frame: Frame) -> Any:
        sample = frame[NAME]
        if self.start is None:
            if sample.status != "FRESH":
                return None
            self.start, self._since_ns = sample.value[self._feedback].copy(), frame.due_ns
        way = self._reach * (frame.due_ns - self._since_ns) / 2e9
        return self.start - np.copysign(way, self.start)


class _Steady:
    """A policy that asks every joint for the same velocity or effort, in small steps."""

    def __init__(self, value: float) -> None:
        self._value, self._part = value, 0.0

    def __call__(self, frame: Frame) -> Any:
        channels = frame.command[NAME].applied.size
        self._part = min(1.0, self._part + 0.01) if frame.reason == "none" else 0.0
        return np.full(channels, self._value * self._part)


def _moves(rig: Rig, mode: str, feedback: str, reach: float) -> tuple[Any, tuple[str, ...]] | None:
    """A policy and limits that move an actuator in a mode; None: nothing is known to do so."""
    if mode == "position":
        return _Walk(feedback, reach), _motion_tables(feedback, reach)
    driver = rig.make()
    driver.mode = mode
    spec = driver.actuator()
    assert spec is not None
    if mode == "velocity":
        value, limits = reach / 8, {"velocity": reach / 4, "acceleration": 4 * reach}
    elif mode == "effort" and spec.largest:
        value = 0.1 * min(spec.largest)
        limits = {"effort": 2 * value, "effort_rate": 20 * value}
    else:
        return None
    table = {"device": NAME, "mode": mode, "feedback": f"{NAME}.{feedback}"}
    return _Steady(value), (
        toml_table(("actuator", NAME), table),
        toml_table(("actuator", NAME, "limits"), limits),
    )


def _feedback(rig: Rig, actuator: ActuatorSpec) -> str:
    """The field that says where the actuator's joints are, or how fast: of its unit and its
    channels."""
    spec = rig.driver.sensor()
    for unit in (actuator.unit.removesuffix("/s"), actuator.unit):
        for field in spec.fields if spec is not None else ():
            if (field.unit, field.channels) == (unit, actuator.channels):
                return field.name
    pytest.skip(f"no field of the sensor says where the actuator's joints are [{actuator.unit}]")


def _motion_tables(feedback: str, reach: float) -> tuple[str, str]:
    """Limits that let one command ask for the whole way: what stops it is not the limiter."""
    limits = {
        "position": [-10 * reach, 10 * reach],
        "velocity": 1e4 * reach,
        "acceleration": 1e10 * reach,
        "step": 2 * reach,
    }
    actuator = {"device": NAME, "feedback": f"{NAME}.{feedback}"}
    return (
        toml_table(("actuator", NAME), actuator),
        toml_table(("actuator", NAME, "limits"), limits),
    )


def _measure(driver: Driver, fd: int, feedback: str) -> Any:
    """Where the joints of an open device are."""
    spec = driver.sensor()
    assert spec is not None
    if spec.exchange is None:
        return _ask_by_hand(driver)[feedback].copy()
    sample = np.zeros((), wire.sample_dtype([(f.name, f.shape, f.dtype) for f in spec.fields]))
    sample.reshape(1).view("<f8")[:] = Recorded(spec, fd).values
    return sample[feedback].copy()
