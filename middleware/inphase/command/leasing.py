"""`inphase lease`, `drive`, `submit`, `jobs`, `fetch`, `stop`: robots that a service keeps up."""

import contextlib
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inphase.client.remote_drive import RemoteDrive
    from inphase.client.remote_lease import RemoteLease
    from inphase.client.remote_robot import RemoteRobot
    from inphase.frames.frame import Frame
    from inphase.policy.turn import PolicyCall

_LOOK_S = 0.5
_BEGIN_S = 10.0
"""that a lease has beyond the time of a drive: its recording begins first"""


def _service(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all who talk to a service."""
    options = (
        click.option(
            "--service", default="", help="its address; left out: this user's, on this host"
        ),
        click.option(
            "--key",
            type=click.Path(path_type=Path),
            help="your key for a service on the network: a file of `inphase keys create`",
        ),
    )
    for option in options:
        command = option(command)
    return command


def _connect(service: str, key: Path | None, robot: str | None) -> "RemoteRobot":
    from inphase.client.remote_robot import connect

    return connect(service, robot=robot or "", key=key)


@click.command()
@click.argument("robot", required=False)
@_service
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="at most so long")
@click.option("--show", is_flag=True, help="only show who holds what")
@click.option("--take", is_flag=True, help="take it over; for the local operator")
@click.option("--arm", is_flag=True, help="arm the robot again; for the local operator")
def lease(
    *,
    robot: str | None,
    service: str,
    key: Path | None,
    seconds: float | None,
    show: bool,
    take: bool,
    arm: bool,
) -> None:
    """Ask for the lease of ROBOT, and hold it until ^C; or show who holds it."""
    if show:
        _show(service, key)
        return
    with _connect(service, key, robot) as remote:
        if arm:
            remote.arm()
            click.echo(f"{remote.name} is armed")
            return
        held = remote.take() if take else remote.request(seconds)
        with contextlib.suppress(KeyboardInterrupt):
            _follow(remote, held)
            click.echo(f"lease {held.number} of {remote.name}; ^C gives it back", err=True)
            while held.poll() == "holds":
                time.sleep(_LOOK_S)
            click.echo("the lease has ended", err=True)


def _follow(remote: "RemoteRobot", held: "RemoteLease") -> None:
    """Tell the place in the queue, each time that it changes."""
    told = 0
    for state in held.follow():
        if state == "waits" and held.position != told:
            told = held.position
            click.echo(
                f"{remote.name}: place {told} in the queue, at most {held.wait_s:.0f} s", err=True
            )


def _show(service: str, key: Path | None) -> None:
    from inphase.client.connection import ServiceConnection
    from inphase.command.screen import screen, table
    from inphase.frames.record_layout import STATES, name_of

    connection = ServiceConnection(service, key)
    try:
        found = connection.ask("robots")["robots"]
    finally:
        connection.close()
    made = table("Robots", ("robot", "state", "holder", "seconds left", "queue"), left=("robot",))
    for one in found:
        left = f"{one['left_s']:.0f}" if one["holder"] else ""
        state = one["closed"] or name_of(one["state"], STATES)
        made.add_row(one["robot"], state, one["holder"], left, ", ".join(one["queue"]))
    screen().print(made)


@click.command()
@click.argument("robot")
@click.argument("policy", required=False)
@_service
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="stop after so long")
@click.option("--no-images", is_flag=True, help="send no images here")
@click.option(
    "--correct",
    is_flag=True,
    help="take over from the client that drives, while commands come; for the operator",
)
@click.option(
    "--jog",
    type=click.FloatRange(min=0, min_open=True),
    help="by keys in place of POLICY, at so many rad/s or m/s",
)
@click.option("--adapt", is_flag=True, help="answer fewer frames where all is too much")
def drive(
    *,
    robot: str,
    policy: str | None,
    service: str,
    key: Path | None,
    seconds: float | None,
    no_images: bool,
    correct: bool,
    adapt: bool,
    jog: float | None,
) -> None:
    """Drive ROBOT from here with POLICY: a function or class, `file.py:name` or `module:name`."""
    from inphase.schedule import import_by_name

    if (policy is None) == (jog is None):
        raise click.UsageError("give POLICY, or --jog SPEED for keys")
    found = import_by_name.resolve_call(policy, Path()) if policy is not None else jog
    wanted_s = None if seconds is None else seconds + _BEGIN_S
    with _connect(service, key, robot) as remote:
        with contextlib.suppress(KeyboardInterrupt):
            if correct:
                click.echo(f"{remote.name}: the person's seat; ^C leaves it", err=True)
                _answer(remote.correct(images=not no_images), found, seconds)
            else:
                held = remote.request(wanted_s)
                _follow(remote, held)
                click.echo(f"lease {held.number} of {remote.name}; ^C ends it", err=True)
                _answer(held.drive(images=not no_images, adapt=adapt), found, seconds)
        counts = remote.facts["commands"]
    click.echo(", ".join(f"{name} {count}" for name, count in sorted(counts.items())), err=True)


def _answer(drive: "RemoteDrive", policy: object, seconds: float | None) -> None:
    """Answer frames for so long, by a policy or, where it is a speed, by keys. A policy that can be
    begun anew is measured first."""
    from inphase.policy import turn
    from inphase.runtime.requests.keyboard import Keys

    with drive as driving, Keys(isinstance(policy, float)) as keys:
        call = (
            _by_keys(driving, keys.fd, policy)
            if isinstance(policy, float)
            else turn.begin(policy, driving.layout)
        )
        if callable(getattr(call, "reset", None)):
            driving.measure(call)
        end_s = None if seconds is None else time.monotonic() + seconds
        for frame in driving:
            command = call(frame)
            if command is not None:
                driving.act(command, frame)
            if end_s is not None and time.monotonic() > end_s:
                break


def _by_keys(drive: "RemoteDrive", fd: int, speed: float) -> "PolicyCall":
    """Raises ServiceError where there are no keys."""
    import numpy as np

    from inphase.command.live.jog import Jog
    from inphase.errors import ServiceError

    if fd < 0:
        raise ServiceError("--jog wants a terminal whose keys it has; give a POLICY without one")
    jog = Jog(fd, drive.description["actuators"], speed)
    click.echo(jog.help(), err=True)

    def call(frame: "Frame") -> object:
        command = jog(frame)
        return None if command is None else np.broadcast_to(command, drive.shape)

    return call


@click.command()
@click.argument("robot")
@click.argument("model", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_service
@click.option(
    "--policy",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="a TOML file: how the model is bound, as [policy] of a schedule says it",
)
@click.option("--episodes", type=click.IntRange(1, 1000), default=1, show_default=True)
@click.option("--seconds", type=float, default=10.0, show_default=True, help="of each episode")
@click.option(
    "--success",
    type=click.Choice(["nobody", "person", "task"]),
    default="nobody",
    show_default=True,
    help="who says how an episode ended; task: the schedule's [task] success or classifier",
)
@click.option(
    "--reset",
    type=click.Choice(["nobody", "person", "policy"]),
    default="nobody",
    show_default=True,
    help="who resets the robot before each; policy: the schedule's, or --reset-model",
)
@click.option(
    "--reset-model",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="a policy that resets the robot, bound as MODEL is",
)
@click.option(
    "--reset-seconds", type=float, default=10.0, show_default=True, help="of each reset by a policy"
)
@click.option("--wait", is_flag=True, help="until the job is over")
def submit(
    *,
    robot: str,
    model: Path,
    service: str,
    key: Path | None,
    policy: Path | None,
    episodes: int,
    seconds: float,
    success: str,
    reset: str,
    reset_model: Path | None,
    reset_seconds: float,
    wait: bool,
) -> None:
    """Submit a job: MODEL, an ONNX or safetensors file, runs on the side of ROBOT, unattended."""
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.errors import ScheduleError

    bound: dict[str, Any] = {}
    if policy is not None:
        import tomllib

        try:
            bound = tomllib.loads(policy.read_text())
        except tomllib.TOMLDecodeError as error:
            raise ScheduleError(f"{policy}: {error}") from error
        bound = bound.get("policy", bound)
    if reset_model is not None and reset != "policy":
        raise click.UsageError("--reset-model is for --reset policy; give both, or neither")
    words = {"policy": bound if reset_model else {}, "seconds": reset_seconds}
    with _connect(service, key, robot) as remote:
        with FrameProgress("bytes") as progress:
            number = remote.submit(
                model,
                policy=bound,
                episodes=episodes,
                seconds=seconds,
                success=success,
                reset=words if reset == "policy" else reset,
                reset_model=reset_model,
                watch=progress.show,
            )
        click.echo(f"job {number} of {remote.name}", err=True)
        if wait:
            _wait(remote, number)


def _wait(remote: "RemoteRobot", number: int) -> None:
    """Tell how it stands, until it is over. Raises ServiceError where it did not do what it was to
    do."""
    from inphase.errors import ServiceError

    told = ""
    while True:
        found = remote.job(number)
        now = f"{found['state']} {found['outcomes']}".strip()
        if now != told:
            told = now
            click.echo(f"job {number}: {now}", err=True)
        if found["state"] == "done":
            click.echo(f"inphase fetch {remote.name} {found['recording'].rpartition('-')[2]}")
            return
        if found["state"] not in {"checking", "waiting", "running"}:
            raise ServiceError(f"job {number} is {found['state']}: {found['why']}")
        time.sleep(_LOOK_S)


@click.command()
@click.argument("robot", required=False)
@_service
@click.option("--cancel", type=int, help="take back the job of that number")
@click.option(
    "--mark",
    type=(int, click.Choice(["success", "failure", "discarded"])),
    help="how the present episode of a job ended",
)
@click.option("--reset", type=int, help="the robot is reset for the next episode of that job")
def jobs(
    *,
    robot: str | None,
    service: str,
    key: Path | None,
    cancel: int | None,
    mark: tuple[int, str] | None,
    reset: int | None,
) -> None:
    """Show the jobs of ROBOT, the newest first."""
    from inphase.command.screen import screen, table

    with _connect(service, key, robot) as remote:
        if cancel is not None:
            remote.cancel_job(cancel)
            click.echo(f"job {cancel} of {remote.name} is taken back")
            return
        if mark is not None:
            remote.mark(*mark)
            click.echo(f"the present episode of job {mark[0]} ends as {mark[1]}")
            return
        if reset is not None:
            remote.reset(reset)
            click.echo(f"the next episode of job {reset} begins")
            return
        made = table(
            f"Jobs of {remote.name}", ("job", "user", "submitted", "state", "episodes", "recording")
        )
        for one in remote.jobs():
            at = datetime.fromtimestamp(one["submitted_s"]).isoformat(" ", "seconds")
            state = f"{one['state']}: {one['why']}" if one["why"] else one["state"]
            pairs = zip(one["outcomes"].split(), one["scores"].split(), strict=False)
            ends = [ended if score == "-" else f"{ended} {score}" for ended, score in pairs]
            made.add_row(
                str(one["number"]), one["user"], at, state, ", ".join(ends), one["recording"]
            )
    screen().print(made)


@click.command()
@click.argument("robot")
@click.argument("lease", type=int)
@_service
@click.option("--to", type=click.Path(path_type=Path), help="the file that is made")
def fetch(*, robot: str, lease: int, service: str, key: Path | None, to: Path | None) -> None:
    """Fetch the recording of a LEASE of ROBOT; `inphase jobs` names that of each job."""
    from inphase.command.recorded.reporting import FrameProgress
    from inphase.errors import RecordingError

    with _connect(service, key, robot) as remote:
        path = to or Path(f"{remote.name}-{lease}.mcap")
        try:
            with FrameProgress("bytes") as progress:
                remote.fetch(lease, path, progress.show)
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror}; give another name by --to") from error
    click.echo(f"{path}; inphase report {path}", err=True)


@click.command()
@click.argument("robot", required=False)
@_service
def stop(*, robot: str | None, service: str, key: Path | None) -> None:
    """Emergency stop of ROBOT, by the lane that stops have alone."""
    with _connect(service, key, robot) as remote:
        remote.stop()
        click.echo(f"{remote.name} is stopped; the local operator arms it: inphase lease --arm")


@click.command()
@click.argument("robot")
@click.argument("start", required=False, type=click.DateTime(("%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")))
@_service
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True
)
@click.option("--cancel", type=int, metavar="NUMBER", help="give that reservation back")
def reserve(
    *,
    robot: str,
    start: datetime | None,
    service: str,
    key: Path | None,
    minutes: float,
    cancel: int | None,
) -> None:
    """Reserve ROBOT from START on, in local time; without START list who has reserved it.

    At that time the lease of another user ends, and `inphase lease ROBOT` has it at once.
    """
    if start is not None and cancel is not None:
        raise click.UsageError("give START or --cancel, not both")
    with _connect(service, key, robot) as remote:
        if cancel is not None:
            remote.cancel(cancel)
            click.echo(f"reservation {cancel} of {remote.name} is given back")
        elif start is not None:
            number = remote.reserve(start, start + timedelta(minutes=minutes))
            click.echo(f"reservation {number} of {remote.name}: {_span(start, minutes)}")
        else:
            _show_calendar(remote)


def _span(start: datetime, minutes: float) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {start + timedelta(minutes=minutes):%Y-%m-%d %H:%M}"


def _show_calendar(remote: "RemoteRobot") -> None:
    from inphase.command.screen import screen, table

    made = table(f"reservations of {remote.name}", ("number", "user", "from", "to"))
    for one in remote.facts["reservations"]:
        times = (datetime.fromtimestamp(one[edge]).astimezone() for edge in ("start_s", "end_s"))
        made.add_row(str(one["number"]), one["user"], *(f"{at:%Y-%m-%d %H:%M}" for at in times))
    screen().print(made)


COMMANDS = (lease, reserve, drive, submit, jobs, fetch, stop)
