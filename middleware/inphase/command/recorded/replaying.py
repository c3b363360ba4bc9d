"""`inphase replay`: a recording published again, looked at, or answered by another policy."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from inphase.command.recorded.reporting import FrameProgress

if TYPE_CHECKING:
    from inphase.frames.frame import Frame
    from inphase.recording.recording import Recording
    from inphase.replay.command_differences import Comparison

DIFFERS = 13
_NS_PER_MS = 1_000_000
_KEYS = "Enter: the next one   b: back   NUMBER: that cycle   q: quit"


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="so many times as fast as it was",
)
@click.option("--at", "cycle", type=click.IntRange(min=0), help="begin with this cycle")
@click.option("--step", is_flag=True, help="show frame by frame, and publish nothing")
@click.option(
    "--policy", help="compare the commands of FILE.py:NAME, MODULE:NAME or FILE.onnx; no publishing"
)
@click.option(
    "--robot",
    "schedule",
    type=click.Path(path_type=Path),
    help="move the robot of this schedule by the recorded commands, at most as fast as they were",
)
@click.option(
    "--again",
    "same",
    type=click.Path(path_type=Path),
    help="run it again by this schedule, and compare: lock step from its seed, bit for bit; of the "
    "wall clock states, latches and applied commands",
)
@click.option("--simulate", is_flag=True, help="with --robot: in the schedule's simulated world")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="with --policy: differences up to here are none, in the channel's unit",
)
def replay(
    *,
    file: Path,
    speed: float,
    cycle: int | None,
    step: bool,
    policy: str | None,
    schedule: Path | None,
    same: Path | None,
    simulate: bool,
    tolerance: float,
) -> None:
    """Publish a recording again, at the endpoints of its robot.

    Stamps stay those of the recorded run. No device is touched, unless --robot names a schedule.
    """
    if policy is not None and (step or cycle is not None):
        raise click.UsageError("--policy takes the whole recording; leave out --at and --step")
    if schedule is not None and (policy is not None or step):
        raise click.UsageError("--robot moves a robot; leave out --policy and --step")
    if schedule is not None and speed > 1:
        raise click.UsageError("--robot is at most as fast as it was: give --speed 1 or less")
    if same is not None and (policy is not None or step or cycle is not None or schedule):
        raise click.UsageError("--again compares the whole recording; leave out other options")
    if simulate and schedule is None:
        raise click.UsageError("--simulate is for --robot: it says where the robot is")
    from inphase.recording.recording import Recording

    with Recording(file) as recording:
        for trouble in recording.troubles:
            click.echo(f"inphase: {file}: {trouble}", err=True)
        if policy is not None:
            sys.exit(_compare(recording, policy, tolerance))
        if same is not None:
            sys.exit(_run_again(recording, same))
        if schedule is not None:
            sys.exit(_move(recording, schedule, simulate, speed, cycle or 0))
        place = _place(recording, cycle)
        if step:
            _step(recording, place)
        else:
            _publish(recording, place, speed)


def _place(recording: "Recording", cycle: int | None) -> int:
    from inphase.replay.player import place_of

    try:
        return place_of(recording, cycle if cycle is not None else -1)
    except ValueError as error:
        raise click.BadParameter(
            str(error), param_hint="--at" if cycle is not None else "FILE"
        ) from error


def _publish(recording: "Recording", place: int, speed: float) -> None:
    from inphase.replay.publishing import Publisher

    with Publisher(recording) as publisher, FrameProgress() as progress:
        where = publisher.gateway.endpoint if publisher.gateway is not None else "its store alone"
        click.echo(f"{recording.layout.robot}: a replay of {recording.path}, at {where}", err=True)
        published = publisher.run(
            place, speed, lambda done: progress.show(done + 1, len(recording))
        )
    click.echo(f"{published} frames were published", err=True)


# ---- frame by frame ------------------------------------------------------------------------------


def _step(recording: "Recording", place: int) -> None:
    """Show a frame, then what each line of stdin asks for."""
    from inphase.replay.player import place_of

    if sys.stdin.isatty():
        click.echo(_KEYS, err=True)
    click.echo(_text(recording[place]))
    for line in sys.stdin:
        asked = line.strip()
        if asked == "q":
            return
        try:
            place = place_of(recording, int(asked)) if asked.isdecimal() else _moved(place, asked)
            frame = recording[place]
        except (ValueError, IndexError) as error:
            click.echo(str(error) if asked else "that was the last frame", err=True)
            continue
        click.echo(_text(frame))


def _moved(place: int, asked: str) -> int:
    """Raises ValueError for what is no key."""
    if asked not in ("", "b"):
        raise ValueError(f"{asked!r} is no key; {_KEYS}")
    return place + 1 if not asked else max(0, place - 1)


def _text(frame: "Frame") -> str:
    """A frame with its state and the act before it."""
    from inphase.command.live import echo
    from inphase.frames import words

    lost = f"  {frame.lost} frames before it are missing" if frame.lost else ""
    lines = [echo.as_text(frame), f"  state {frame.state}{_why(frame)}{lost}"]
    lines += [f"  act of cycle {frame.command.cycle}: {words.of_act(a)}" for a in frame.command]
    return "\n".join(lines)


def _why(frame: "Frame") -> str:
    return "" if frame.reason == "none" else f" ({frame.reason} {frame.detail})"


# ---- once more in lock step ---------------------------------------------------------------------


def _run_again(recording: "Recording", schedule: Path) -> int:
    """The exit code."""
    from inphase.command.recorded import diffing
    from inphase.plan.validation import load
    from inphase.replay.again import has_seed, run_again

    if not has_seed(recording):
        return _decide_again(recording, schedule)
    with FrameProgress() as progress:
        found = run_again(recording, load(schedule), progress.show)
    diffing.show(found)
    return 0 if found.are_equal else DIFFERS


def _decide_again(recording: "Recording", schedule: Path) -> int:
    """The exit code."""
    from inphase.plan.validation import load
    from inphase.replay.again import refuse_another
    from inphase.replay.state_machine import decide_again

    described = load(schedule)
    refuse_another(recording, described)
    with FrameProgress() as progress:
        found = decide_again(recording, described, lambda done: progress.show(done, len(recording)))
    about = "states, reasons, flags of acts and applied commands"
    if found.differ:
        kinds = ", ".join(f"{name} in {count}" for name, count in found.differ.items())
        click.echo(f"of {found.compared} frames these differ: {kinds}; first {found.first}")
    else:
        click.echo(f"{about} are equal, bit for bit, in {found.compared} frames")
    return DIFFERS if found.differ or not found.compared else 0


# ---- on a robot ----------------------------------------------------------------------------------


def _move(
    recording: "Recording", schedule: Path, simulate: bool, speed: float, first_cycle: int
) -> int:
    """The exit code."""
    from inphase.errors import RuntimeFault
    from inphase.plan import plan
    from inphase.plan.validation import load
    from inphase.replay.on_robot import play_on_robot
    from inphase.replay.recorded_commands import RecordedCommands
    from inphase.runtime import summary

    described = load(schedule)
    made = plan.make(described)
    commands = RecordedCommands(recording, made, speed=speed, first_cycle=first_cycle)
    track = commands.track
    if track.left_out:
        text = f"{track.left_out} commands are not in the file; the robot goes on between them"
        click.echo(f"inphase: {recording.path}: {text}", err=True)
    click.echo(f"{described.name}: space and e stop it, ^C ramps it and ends", err=True)
    with FrameProgress("ms of commands") as progress:
        found = play_on_robot(
            described,
            commands,
            simulate=simulate,
            watch=lambda ns: progress.show(ns // _NS_PER_MS, track.duration_ns // _NS_PER_MS),
        )
    for line in found.summary.get("verdict", ()):
        click.echo(line)
    played_s, all_s = found.played_ns / 1e9, track.duration_ns / 1e9
    click.echo(
        f"played {played_s:.3f} of {all_s:.3f} s; the limits changed {found.limited} of "
        f"{found.acts} acts"
    )
    if not found.stopped:
        return summary.exit_code(found.summary)
    click.echo(f"inphase: stopped before the last command: {found.stopped}", err=True)
    if found.stopped == "^C":
        return 130
    return summary.exit_code(found.summary) or RuntimeFault.exit_code


# ---- another policy ------------------------------------------------------------------------------


def _compare(recording: "Recording", policy: str, tolerance: float) -> int:
    """The exit code."""
    from inphase.replay.comparison import compare

    def say(text: str) -> None:
        click.echo(f"inphase: {text}", err=True)

    with FrameProgress() as progress:
        found = compare(
            recording,
            policy,
            tolerance,
            say=say,
            watch=lambda done: progress.show(done, len(recording)),
        )
    for line in _lines(found):
        click.echo(line)
    return DIFFERS if found.differ or not found.compared else 0


def _lines(found: "Comparison") -> Iterator[str]:
    yield f"{found.compared} cycles have a recorded command and one of this policy"
    if found.only_recorded:
        why = ", ".join(f"{reason} {count}" for reason, count in found.reasons.items())
        yield f"{found.only_recorded} have a recorded one alone{f' ({why})' if why else ''}"
    if found.only_answered:
        yield f"{found.only_answered} have one of this policy alone"
    if found.unasked:
        yield f"{found.unasked} frames have no answer in the recording, and were not asked about"
    if found.first is None:
        yield "no value differs" if found.compared else "nothing could be compared"
        return
    yield f"{found.differ} differ, first in {found.first}"
    yield f"most in {found.largest}"
