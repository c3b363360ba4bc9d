"""The command `inphase`. Nothing imports this module."""

import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inphase.command import (
    access,
    benching,
    calibration,
    doctoring,
    drafts,
    leasing,
    live,
    recorded,
    robots,
    serving,
    udev,
)
from inphase.command.recorded.file_options import file_options
from inphase.errors import InphaseError, ScheduleError, of_missing_package
from inphase.host.standard_streams import open_standard_streams, print_json, tell_unwritten

if TYPE_CHECKING:
    from inphase.recording.recorder_process import RecorderOptions

_MOVED = 13
_COLLECTED = 20_000
"""objects made, less those that went, before Python looks for circles among them"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inphase")
def cli() -> None:
    """Real-time robot middleware: one schedule, one cycle, frames in phase."""


@cli.command()
@click.argument("schedule", type=click.Path(path_type=Path))
@click.option("--cycles", type=click.IntRange(min=1), help="stop after so many cycles")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="stop after so long")
@click.option("--observe", is_flag=True, help="read and publish, never write to an actuator")
@click.option("--lockstep", is_flag=True, help="virtual time, simulated devices, one thread")
@click.option("--simulate", is_flag=True, help="real time, in the schedule's simulated world")
@click.option("--view", is_flag=True, help="with --simulate: a window shows the world")
@click.option("--debug-hold", is_flag=True, help="the guard leaves a frozen runtime alive")
@click.option("--seed", type=int, default=0, show_default=True, help="of the simulated devices")
@click.option("--episode", type=click.IntRange(min=0), default=0, help="which draws of [randomise]")
@click.option("--isolate", is_flag=True, help="lock step: the policy in a process of its own")
@click.option(
    "--record", type=click.Path(path_type=Path), help="record all frames into this file, an MCAP"
)
@click.option(
    "--timing",
    type=click.Path(path_type=Path),
    help="lock step: follow the timing of this recording, cycle by cycle",
)
@file_options
@click.option("--json", "as_json", is_flag=True, help="only the summary, as JSON, on stdout")
def run(
    *,
    schedule: Path,
    cycles: int | None,
    seconds: float | None,
    observe: bool,
    lockstep: bool,
    simulate: bool,
    view: bool,
    debug_hold: bool,
    seed: int,
    episode: int,
    isolate: bool,
    record: Path | None,
    timing: Path | None,
    recorder: "RecorderOptions",
    as_json: bool,
) -> None:
    """Run the robot that SCHEDULE describes, until it is done or ^C ramps it down."""
    from inphase.plan.validation import load

    _refuse_contradictions(
        cycles=cycles,
        seconds=seconds,
        lockstep=lockstep,
        simulate=simulate,
        isolate=isolate,
        view=view,
        debug_hold=debug_hold,
        timing=timing,
    )
    described = load(schedule)
    if seconds is not None:
        cycles = max(1, round(seconds * 1e9 / described.cycle.period_ns))
    alike: dict[str, Any] = {"observe": observe, "record": record, "recorder": recorder}
    if lockstep:
        if cycles is None:
            raise click.UsageError("--lockstep needs an end: give --cycles or --seconds")
        from inphase.episodes.lockstep import run as run_lockstep

        draws: dict[str, Any] = {
            "seed": seed,
            "episode": episode,
            "timing": timing,
            "isolate": isolate,
        }
        result = run_lockstep(described, cycles, **draws, **alike)
    else:
        from inphase.runtime.run_options import RunOptions

        seen: dict[str, Any] = {"simulate": simulate, "view": view, "debug_hold": debug_hold}
        options = RunOptions(cycles or 0, **seen, **alike)
        result = _run_wall_clock(described, options, as_json)
    _show_result(result, as_json)


def _refuse_contradictions(
    *,
    cycles: int | None,
    seconds: float | None,
    lockstep: bool,
    simulate: bool,
    isolate: bool,
    view: bool,
    debug_hold: bool,
    timing: Path | None,
) -> None:
    """Raise UsageError for options of `run` that do not go together."""
    if cycles is not None and seconds is not None:
        raise click.UsageError("give --cycles or --seconds, not both")
    if lockstep and simulate:
        raise click.UsageError("give --lockstep (virtual time) or --simulate (real time), not both")
    if isolate and not lockstep:
        raise click.UsageError(
            "--isolate is for --lockstep: on the wall clock a policy is always isolated"
        )
    if timing is not None and not lockstep:
        raise click.UsageError("--timing is for --lockstep: elsewhere time is the machine's")
    if view and not simulate:
        raise click.UsageError("--view is for --simulate: it shows the simulated world")
    if debug_hold and lockstep:
        raise click.UsageError("--debug-hold is for the wall clock: lock step has no guard")


def _show_result(result: dict[str, Any], as_json: bool) -> None:
    from inphase.runtime import summary

    code = summary.exit_code(result)
    try:
        if as_json:
            print_json(result)
        else:
            from inphase.command.pictures import summary_table
            from inphase.command.screen import screen

            console = screen()
            with console.capture() as text:  # it would end the process where nobody reads
                console.print(summary_table.render(result))
            print(text.get(), end="", flush=True)
    except OSError as error:
        code = tell_unwritten(error, code)
    sys.exit(code)


def _run_wall_clock(described: Any, options: Any, as_json: bool) -> dict[str, Any]:
    from inphase.command.live.live_view import LiveView, OwnRobot
    from inphase.runtime import runtime
    from inphase.runtime.requests.keyboard import Keys

    with LiveView(shown=not as_json) as view, Keys(wanted=view.is_live) as keys:
        view.has_keys = keys.fd >= 0

        def watching(robot: Any) -> Any:
            return view.watching(OwnRobot(robot))

        return runtime.run(described, options, view.say, watching, keys.fd)


@cli.command()
@click.argument("name", required=False)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="stop after so long",
)
@click.option(
    "--view", is_flag=True, help="a window shows the simulated world, of press by default"
)
def demo(*, name: str | None, seconds: float, view: bool) -> None:
    """Run a ready schedule in real time, by default the one called demo; nothing is plugged in.

    `inphase schedules` lists them. One with a simulated world runs in it.
    """
    from inphase.command import ready_schedules
    from inphase.plan.validation import load
    from inphase.runtime.run_options import RunOptions

    name = name or ("press" if view else "demo")
    ready = ready_schedules.find(name)
    ready.refuse_missing_extras()
    if view and not ready.has_world:
        raise click.UsageError(f"{name} has no simulated world to show; try press or arm")
    click.echo(f"{name}: {ready.about}", err=True)
    click.echo(f"to change it: inphase schedules --copy {name}", err=True)
    described = load(ready.path)
    cycles = max(1, round(seconds * 1e9 / described.cycle.period_ns))
    options = RunOptions(cycles, simulate=ready.has_world, view=view)
    _show_result(_run_wall_clock(described, options, as_json=False), as_json=False)


@cli.command()
@click.option("--copy", "name", metavar="NAME", help="copy this one, and the files that it names")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="copy into this folder  [default: this one]",
)
@click.option("--json", "as_json", is_flag=True, help="the list as JSON on stdout")
def schedules(*, name: str | None, output: Path, as_json: bool) -> None:
    """List the schedules that come along, or copy one of them, to run and to change it."""
    from inphase.command import ready_schedules

    if name is not None:
        for copy in ready_schedules.find(name).copy(output):
            click.echo(copy)
        return
    found = ready_schedules.all_schedules()
    if as_json:
        print_json([one.facts() for one in found])
        return
    from inphase.command.screen import screen, table

    made = table("schedules: inphase demo NAME runs one", ("name", "robot", "missing extras"))
    for one in found:
        made.add_row(one.name, one.about, ", ".join(one.missing_extras()))
    screen().print(made)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("schedule", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="facts as JSON on stdout")
@click.option(
    "--percent",
    type=click.FloatRange(min=0, max=100),
    help="of a recording: frames in which a promise may be broken  [default: 0.1]",
)
@click.option(
    "--slack-us",
    type=click.FloatRange(min=0),
    help="of a recording: by how much an offset may be missed  [default: 5 % of the period]",
)
def check(
    *,
    file: Path,
    schedule: Path | None,
    as_json: bool,
    percent: float | None,
    slack_us: float | None,
) -> None:
    """Validate the schedule FILE without touching a device, draw its cycle, look at the machine.

    Or of the recording FILE: does it keep what its SCHEDULE promises? Left out, the schedule is the
    one in the recording. Exit code 13: a promise is broken.
    """
    from inphase.command.recorded import keeping

    if keeping.is_recording(file):
        percent = 0.1 if percent is None else percent
        sys.exit(keeping.check(file, schedule, percent=percent, slack_us=slack_us, as_json=as_json))
    if schedule is not None or percent is not None or slack_us is not None:
        raise click.UsageError(f"{file} is no recording: give one schedule, and nothing else")
    from inphase.command import check as checkup

    report = checkup.make(file)
    if as_json:
        print_json(report.facts())
    else:
        from inphase.command.screen import screen

        console = screen()
        console.print(report.render(console.width))


@cli.command()
@click.argument("schedule", type=click.Path(path_type=Path))
@click.argument("sensor")
@click.option("--cycles", type=click.IntRange(min=1), help="measure for so many cycles")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="measure for so long  [default: 10]",
)
@click.option("--json", "as_json", is_flag=True, help="only the result, as JSON, on stdout")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    help="of a camera: a picture of before; it is said if the camera moved since",
)
@click.option("--keep", type=click.Path(path_type=Path), help="of a camera: write an image, PNG")
def probe(
    *,
    schedule: Path,
    sensor: str,
    cycles: int | None,
    seconds: float | None,
    as_json: bool,
    reference: Path | None,
    keep: Path | None,
) -> None:
    """Measure the device behind SENSOR of SCHEDULE: run it alone, and never command it.

    Exit code 13: the camera moved since the reference, or it is not known if it did.
    """
    from rich.progress import Progress

    from inphase.command import camera_motion
    from inphase.command import probe as probing
    from inphase.command.screen import screen
    from inphase.plan.validation import load

    if cycles is not None and seconds is not None:
        raise click.UsageError("give --cycles or --seconds, not both")
    described = load(schedule)
    before = None if reference is None else camera_motion.read(reference)
    images = camera_motion.Images(sensor)
    looks = before is not None or keep is not None
    if cycles is None:
        cycles = max(1, round((seconds or 10.0) * 1e9 / described.cycle.period_ns))
    stderr = screen(stderr=True)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(f"{sensor}: ^C ends it and sums up", total=cycles)
        result = probing.probe(
            described,
            sensor,
            cycles,
            lambda done: progress.update(task, completed=done),
            images.take if looks else lambda _: None,
        )
    if keep is not None:
        camera_motion.keep(images.kept, keep)
    if before is not None:
        result["camera"] = camera_motion.motion(before, images.kept)
    if as_json:
        print_json(result)
    else:
        from inphase.command.pictures import probe_report

        screen().print(probe_report.render(result))
        if before is not None and reference is not None:
            click.echo(camera_motion.told(result["camera"], reference))
    if before is not None and result["camera"]["moved"] is not False:
        sys.exit(_MOVED)


@cli.command()
@click.argument("schedule", type=click.Path(path_type=Path))
@click.argument("pattern", default="*")
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def knobs(schedule: Path, pattern: str, as_json: bool) -> None:
    """List the knobs that [randomise] can move in the simulation of SCHEDULE, by path; `*`: all."""
    from inphase.plan.validation import load
    from inphase.world import randomisation

    found = randomisation.knobs_of(load(schedule), pattern)
    if as_json:
        print_json([knob._asdict() for knob in found])
        return
    from inphase.command.screen import screen, table

    made = table(f"knobs: {len(found)}", ("path", "now", "per", "drawn"))
    for knob in found:
        made.add_row(knob.path, knob.now, knob.per, "yes" if knob.drawn else "")
    screen().print(made)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def drivers(as_json: bool) -> None:
    """List the drivers that installed packages offer by name."""
    from inphase.devices.driver_names import installed_drivers

    offers = installed_drivers()
    if as_json:
        print_json([offer._asdict() | {"about": _about(offer)} for offer in offers])
        return
    from inphase.command.screen import screen, table

    columns = ("name", "device", "class", "package")
    made = table('drivers: in a schedule, driver = "NAME"', columns)
    for offer in offers:
        made.add_row(offer.name, _about(offer), offer.call, offer.package)
    screen().print(made)


@cli.command()
@click.option("--scan", metavar="PORT", help="ask on this port who is there: servos")
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def ports(*, scan: str | None, as_json: bool) -> None:
    """List the serial ports, with names that stay, USB ids, and the right that a port wants.

    A scan sends questions to whatever is on PORT, and changes nothing in a device.
    """
    from inphase.command import ports as serial_ports

    if scan is None:
        serial_ports.show(as_json=as_json)
    else:
        serial_ports.show_scan(scan, as_json=as_json)


def _about(offer: Any) -> str:
    """Its first line about itself, or the reason why it cannot be imported."""
    try:
        return str(offer.about())
    except InphaseError as error:
        return str(error)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def explain(words: tuple[str, ...], as_json: bool) -> None:
    """Say the meaning of WORDS, and the first thing to do about them.

    WORDS are a status, reason, flag, state or exit code of a run, a key of a schedule, or a
    question such as `why is my sensor LATE?`. Without WORDS: the list of all.
    """
    from inphase.command import explain as explaining

    found = explaining.of(words) if words else explaining.every()
    if as_json:
        print_json([one._asdict() for one in found])
        return
    from inphase.command.screen import screen

    screen().print(explaining.render(found) if words else explaining.render_list())


# those of a subject, which its own folder lists
COMMANDS = (
    *live.COMMANDS,
    *recorded.COMMANDS,
    *drafts.COMMANDS,
    *serving.COMMANDS,
    *robots.COMMANDS,
    *leasing.COMMANDS,
    *access.COMMANDS,
    *doctoring.COMMANDS,
    udev.udev,
    *benching.COMMANDS,
    *calibration.COMMANDS,
)
for command in COMMANDS:
    cli.add_command(command)


def _run_command() -> None:
    try:
        cli(standalone_mode=False)
    except ModuleNotFoundError as missing:
        error = of_missing_package(missing)
        if error is None:
            raise
        raise error from missing


def main() -> None:
    """Entry: an error of inphase becomes its exit code and a line, or a line for each fault."""
    open_standard_streams()
    # objects of the start stay: to look through them again and again was a tenth of it
    gc.set_threshold(_COLLECTED)
    # a shell that starts a command in the background has it ignore ^C: here it always counts
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _run_command()
    except InphaseError as error:
        for fault in error.faults if isinstance(error, ScheduleError) else [error]:
            click.echo(f"inphase: {fault}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
