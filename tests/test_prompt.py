"""A person at a prompt: names that complete, objects that say in a line what they are, and errors
that list the names there are."""

import re
import rlcompleter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich import pretty

import inphase
from inphase import remote
from inphase.command.live import echo
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame
from inphase.frames import record_layout
from inphase.frames.message import Form
from inphase.frames.sending import Writer, describe
from inphase.frames.store_follower import StoreFollower
from robots import demo_schedule


class Frames(NamedTuple):
    """The same frame here, and as a policy in another process has it."""

    here: Frame
    there: remote.Frame


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frames]:
    robot = LockStep(inphase.load(demo_schedule(tmp_path_factory.mktemp("robot"))))
    robot.run(20)
    follower = StoreFollower(robot.core.segment.path)
    robot.step()
    here = follower.next(0.0)
    description = describe(follower.reader)
    writer = Writer(follower.reader, Form.from_description(description))
    writer.write(0)
    names = ("STATUSES", "REASONS", "STATES", "FRAME_FLAGS", "ACT_FLAGS")
    link = remote.Link(
        {"description": description, **{n.lower(): getattr(record_layout, n) for n in names}}
    )
    parts = [remote.FRAME, bytes(writer.header), bytes(writer.packed)]
    yield Frames(here, link.frame(parts))
    follower.close()
    robot.close()


@pytest.fixture(params=Frames._fields)
def frame(request: pytest.FixtureRequest, frames: Frames) -> Any:
    """Each of them."""
    return getattr(frames, request.param)


# ---- names -----------------------------------------------------------------------------------


def test_dir_has_the_public_names_alone() -> None:
    assert dir(inphase) == sorted(inphase.__all__)


def test_a_prompt_completes_the_public_names_alone() -> None:
    completer = rlcompleter.Completer({"inphase": inphase})
    found = {completer.complete("inphase.", state) for state in range(20)} - {None}
    names = {re.sub(r"\W+$", "", str(name)).removeprefix("inphase.") for name in found}
    assert names == set(inphase.__all__) - {"__version__"}
    assert completer.complete("inphase.Ru", 0) == "inphase.Runner("


def test_a_frame_lists_its_sensors(frame: Any) -> None:
    assert frame.sensors == ("joints", "wrench")
    assert tuple(frame[name].name for name in frame.sensors) == frame.sensors


def test_a_sample_gives_a_field_by_its_name(frame: Any) -> None:
    joints = frame["joints"]
    assert list(joints["position"]) == list(joints.value["position"])


# ---- a name that is none ---------------------------------------------------------------------


def test_a_wrong_sensor_is_answered_with_those_there_are(frame: Any) -> None:
    with pytest.raises(
        KeyError, match=r"no sensor 'joint' .*'joints'.*; there are: joints, wrench"
    ):
        frame["joint"]


def test_a_wrong_field_is_answered_with_those_there_are(frame: Any) -> None:
    with pytest.raises(KeyError, match=r"no field 'pos' .*'position'.*; there are: position"):
        frame["joints"]["pos"]


def test_a_wrong_actuator_is_answered_with_those_there_are(frame: Any) -> None:
    with pytest.raises(KeyError, match="no actuator 'hand'; there are: arm"):
        frame.command["hand"]


def test_a_wrong_sensor_of_an_alignment_is_answered_with_those_there_are(frames: Frames) -> None:
    at = frames.here.at("joints")
    with pytest.raises(KeyError, match="no sensor 'wrist'; there are: joints, wrench"):
        at["wrist"]


# ---- in a line -------------------------------------------------------------------------------


def assert_short(thing: Any) -> None:
    assert "\n" not in repr(thing) and len(repr(thing)) <= 100, repr(thing)


def test_a_frame_and_its_samples_say_what_echo_says(frames: Frames) -> None:
    head, *lines = echo.as_text(frames.here).splitlines()
    assert repr(frames.here) == f"<Frame {head}  of joints, wrench>"
    rows = [line.strip() for line in lines if not line.startswith("    ")]
    assert [repr(frames.here[name]) for name in frames.here.sensors] == [
        f"<Sample {row}>" for row in rows
    ]


def test_an_act_and_a_command_say_their_actuators(frames: Frames) -> None:
    command = frames.here.command
    assert repr(command) == f"<Command of cycle {command.cycle}: arm>"
    values = " ".join(f"{value:.4f}" for value in command["arm"].applied)
    assert repr(command["arm"]) == f"<Act arm  {' '.join(command['arm'].flags)}  applied {values}>"


def test_an_act_that_was_none_has_no_values(tmp_path: Path) -> None:
    with LockStep(inphase.load(demo_schedule(tmp_path)), observe=True) as robot:
        assert repr(robot.step().command["arm"]) == "<Act arm  applied - - - - - ->"


def test_each_is_one_short_line(frame: Any) -> None:
    for thing in (frame, *(frame[name] for name in frame.sensors), frame.command["arm"]):
        assert_short(thing)


def test_a_policy_elsewhere_sees_the_same_lines(frames: Frames) -> None:
    here, there = frames
    assert repr(there) == repr(here)
    assert [repr(there[name]) for name in there.sensors] == [repr(here[n]) for n in here.sensors]
    assert repr(there.command["arm"]) == repr(here.command["arm"])


def test_a_prompt_that_prints_by_rich_has_one_line_likewise(frames: Frames) -> None:
    for thing in (frames.here, *frames.here.samples.values()):
        shown = pretty.pretty_repr(thing)
        assert "\n" not in shown and len(shown) <= 100, shown


def test_an_alignment_says_its_instant_and_how_far_each_sample_is(frames: Frames) -> None:
    at = frames.here.at("joints")
    assert repr(at) == "<Alignment at joints  of joints, wrench>"
    assert repr(at["joints"]) == "<Aligned joints  FRESH  nearest  0.0 us away>"
    assert re.fullmatch(r"<Aligned wrench  FRESH  \w+  \d+\.\d us away>", repr(at["wrench"]))


def test_an_alignment_without_a_sample_says_so(tmp_path: Path) -> None:
    with LockStep(inphase.load(demo_schedule(tmp_path))) as robot:
        robot.core.fault("silent", 1, 0, 5)
        assert repr(robot.step().at("joints")["wrench"]) == "<Aligned wrench  no sample>"


def test_a_runner_says_its_robot_its_clock_and_how_far_it_is(tmp_path: Path) -> None:
    schedule = inphase.load(demo_schedule(tmp_path))
    runner = inphase.Runner(schedule, lockstep=True, cycles=5)
    assert repr(runner) == f"<Runner {schedule.name}  lock step  not started>"
    with runner:
        assert repr(runner) == f"<Runner {schedule.name}  lock step  running>"
    assert repr(runner) == f"<Runner {schedule.name}  lock step  ended>"
    assert "wall clock" in repr(inphase.Runner(schedule))
