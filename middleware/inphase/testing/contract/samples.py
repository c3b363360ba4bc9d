"""Samples in the runtime: stamps, statuses, sequences, and a device that fails."""

import pytest

from inphase.driver import Acquire, SensorSpec
from inphase.frames.frame import Frame, Sample
from inphase.testing.contract.driver_fixtures import DriverFixtures
from inphase.testing.peer import Peer, able
from inphase.testing.rig import NAME, Rig, Watched, runs_free

_BURST = 20  # samples that a device or its link gives at once
_LOST = {"LATE", "MISSING", "OFFLINE"}


class SampleContract(DriverFixtures):
    """Samples of a device in the frames of a runtime."""

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
        spec = running.driver.sensor()
        assert spec is not None
        none = {"INVALID", "LATE", "MISSING"}
        if runs_free(spec):
            none.add("HELD")  # in a cycle in which nothing came at all
        with running.run() as robot:
            robot.status("FRESH")
            device.spoil()
            bad = robot.status("INVALID", "LATE", "MISSING")
            for sample in robot.samples(10):
                assert sample.status in none, sample.status
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
