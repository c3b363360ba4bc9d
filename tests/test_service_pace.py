"""Answers that cannot be in time are told before a robot is driven, with figures and a remedy."""

import re
import time
from collections.abc import Iterator

import numpy as np
import pytest

import inphase
from inphase.client.pace import Pace, Rhythm, pace_of
from inphase.errors import ServiceError
from inphase.frame import Frame
from links import Link
from peers import until
from runtimes import Robot
from serving import Served
from test_service import LEASE_S, swing

MS = 1_000_000
SLOW_WAY_S = 0.2
CHUNK = 60


def rhythm(**changes: int) -> Rhythm:
    """10 ms a cycle, 5 ms from a frame to the act that it is for."""
    given = {"period_ns": 10 * MS, "act_ns": 8 * MS, "latched_ns": 3 * MS, "every": 1}
    given |= {"latency_cycles": 0, "needed_cycles": 0, "chunk": 1, "spacing": 1}
    return Rhythm(**given | changes)


def test_answers_in_time_need_no_pace() -> None:
    assert pace_of(rhythm(), 3 * MS, 2 * MS, adapt=False) == Pace()
    later = rhythm(latency_cycles=2, needed_cycles=2)
    assert pace_of(later, 20 * MS, 5 * MS, adapt=False) == Pace()


@pytest.mark.parametrize(
    ("given", "trip_ms", "policy_ms", "remedy"),
    [
        (rhythm(), 6, 0, {"latency_cycles": 1, "needed_cycles": 1}),
        (rhythm(), 30, 9, {"latency_cycles": 4, "needed_cycles": 4}),
        (rhythm(), 0, 15, {"latency_cycles": 1, "needed_cycles": 1, "every": 2, "spacing": 2}),
    ],
)
def test_answers_too_late_are_refused_with_a_remedy_that_works(
    given: Rhythm, trip_ms: int, policy_ms: int, remedy: dict[str, int]
) -> None:
    for adapt in (False, True):
        figures = f"{trip_ms}.0 ms and the policy {policy_ms}.0 ms"
        with pytest.raises(ServiceError, match=figures) as error:
            pace_of(given, trip_ms * MS, policy_ms * MS, adapt=adapt)
        found = re.findall(r"(\w+) = (\d+)", str(error.value))
        told = {key: int(value) for key, value in found}
        wanted = {key: remedy[key] for key in ("latency_cycles", "every") if key in remedy}
        assert told == wanted
    assert pace_of(rhythm(**remedy), trip_ms * MS, policy_ms * MS, adapt=False) == Pace()


def test_a_chunk_that_lasts_lets_answers_be_late_where_that_is_asked_for() -> None:
    chunks = rhythm(chunk=8)
    with pytest.raises(ServiceError, match="drive with adapt=True"):
        pace_of(chunks, 30 * MS, 15 * MS, adapt=False)
    assert pace_of(chunks, 30 * MS, 15 * MS, adapt=True) == Pace(answers=2, late_cycles=4)
    with pytest.raises(ServiceError, match="latency_cycles = 8"):
        pace_of(chunks, 80 * MS, 0, adapt=True)


@pytest.fixture
def link() -> Iterator[tuple[Robot, Served, Link]]:
    with Robot() as robot, Served(robot, users={"ann": "drive"}) as served:
        port = int(served.remote.rpartition(":")[2])
        with Link(port, 4) as link:
            yield robot, served, link


def remedied(robot: Robot, *lines: str) -> None:
    robot.write(('call = "sweep.py:Sweep"\n', "\n".join(['call = "sweep.py:Sweep"', *lines, ""])))


@pytest.mark.real
@pytest.mark.long
def test_a_way_that_is_too_long_is_refused_and_what_is_told_lets_it_drive(
    link: tuple[Robot, Served, Link],
) -> None:
    robot, served, way = link
    way.delay_s = SLOW_WAY_S
    with inphase.connect(f"tcp://127.0.0.1:{way.port}", key=served.key_of("ann")) as remote:
        lease = remote.request(LEASE_S).wait(20)
        with pytest.raises(ServiceError, match=r"round trip takes [4-9]\d\d") as told:
            lease.drive()
    cycles = int(re.findall(r"latency_cycles = (\d+)", str(told.value))[0])
    assert cycles >= 2 * SLOW_WAY_S / 0.008 - 1
    served.end()
    remedied(robot, f"latency_cycles = {cycles + 10}")  # a way varies
    with Served(robot, users={"ann": "drive"}) as mended:
        port = int(mended.remote.rpartition(":")[2])
        with Link(port, 4) as slow:
            slow.delay_s = SLOW_WAY_S
            address = f"tcp://127.0.0.1:{slow.port}"
            with inphase.connect(address, key=mended.key_of("ann")) as remote:
                lease = remote.request(LEASE_S).wait(20)
                with lease.drive() as drive:
                    assert drive.round_trip_ns is not None
                    assert drive.round_trip_ns >= 2 * SLOW_WAY_S * 1e9
                    until(lambda: any(f.command.drove == "client" for f in swing(drive, 50)))


@pytest.mark.real
@pytest.mark.long
def test_a_chunk_bridges_a_long_way_where_the_client_asks_for_it() -> None:
    with Robot() as robot:
        remedied(robot, f"chunk = {CHUNK}")
        with Served(robot, users={"ann": "drive"}) as served:
            port = int(served.remote.rpartition(":")[2])
            with Link(port, 4) as way:
                way.delay_s = SLOW_WAY_S / 4
                address = f"tcp://127.0.0.1:{way.port}"
                with inphase.connect(address, key=served.key_of("ann")) as remote:
                    lease = remote.request(LEASE_S).wait(20)
                    with pytest.raises(ServiceError, match="drive with adapt=True"):
                        lease.drive()
                    with lease.drive(adapt=True) as drive:
                        assert drive.pace.late_cycles >= SLOW_WAY_S / 2 / 0.008 - 1
                        until(lambda: drive.next()["joints"].status == "FRESH")
                        here = drive.next()["joints"].value["position"].copy()

                        def is_driven() -> bool:
                            frame = drive.next()
                            drive.act(np.tile(here, (CHUNK, 1)), frame)
                            return frame.command.drove == "client"

                        until(is_driven)


@pytest.mark.real
def test_a_policy_is_measured_and_late_answers_are_counted() -> None:
    with Robot() as robot, Served(robot) as served, served.connect() as remote:
        lease = remote.request(LEASE_S).wait(20)
        calls = []

        class Slow:
            def __call__(self, frame: Frame) -> None:
                calls.append(frame.cycle)
                time.sleep(0.02)

            def reset(self) -> None:
                calls.clear()

        with lease.drive() as drive:
            assert drive.measure(lambda frame: calls.append(frame.cycle), 5) > 0
            assert len(calls) == 5
            with pytest.raises(ServiceError, match=r"the policy \d+\.\d ms.* every = \d"):
                drive.measure(Slow(), 3)
            assert calls == []
            with pytest.raises(ServiceError, match="would be too late"):
                lease.drive(inference_s=0.02)
        with lease.drive() as drive:
            until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
            before = remote.facts["commands"].get("late", 0)
            start = drive.next()["joints"].value["position"].copy()

            def answer_late() -> bool:
                frame = drive.next()
                drive.next()
                drive.act(np.array(start), frame)
                return remote.facts["commands"].get("late", 0) > before

            until(answer_late)
