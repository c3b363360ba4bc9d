"""`inphase new`: a start for something of one's own."""

from pathlib import Path

import click


@click.group()
def new() -> None:
    """Make a start for something of your own."""


@new.command("driver")
@click.argument("name")
def new_driver(name: str) -> None:
    """A package with a driver, its twin, an emulator, a schedule and a test, in the folder NAME."""
    from inphase.command.drafts import scaffold

    made = scaffold.new_driver(name, Path())
    click.echo(f"{made}: a driver that works. Its README.md says how to run, test and install it.")


@new.command("schedule")
@click.option(
    "--world",
    "model",
    type=click.Path(path_type=Path),
    required=True,
    help="the model: an MJCF or URDF file",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="the schedule's file  [default: the model's name, in this folder]",
)
def new_schedule(*, model: Path, output: Path | None) -> None:
    """A schedule of a robot in a simulated world, with a policy that moves it, and a test."""
    from inphase.command.drafts import schedule_draft

    made = schedule_draft.new_schedule(model, output)
    for path in made.files:
        click.echo(path)
    for part, why in made.left_out:
        click.echo(f"left out: {part}: {why}", err=True)
    if made.trouble:
        click.echo(f"it was tried, and {made.trouble}", err=True)
    click.echo(f"next: inphase run --simulate {made.files[0]}", err=True)


@new.command("policy")
@click.argument("name")
@click.option(
    "--schedule",
    type=click.Path(path_type=Path),
    help="the robot that it is for  [default: the only schedule in this folder]",
)
def new_policy(*, name: str, schedule: Path | None) -> None:
    """A policy NAME.py that moves the joints of a schedule a little, with its test."""
    from inphase.command.drafts import policy_draft

    folder = Path() if schedule is None else schedule.parent
    for path in policy_draft.new_policy(name, folder, schedule):
        click.echo(path)


@new.command("project")
@click.argument("name")
@click.option(
    "--world",
    "model",
    type=click.Path(path_type=Path),
    help="a model of the robot, an MJCF or URDF file: its folder is copied, without its Python",
)
def new_project(*, name: str, model: Path | None) -> None:
    """A folder NAME with a schedule, a policy, a test and a file for CI; it passes its test."""
    from inphase.command.drafts import project_draft

    for path in project_draft.new_project(name, Path(), model):
        click.echo(path)
    click.echo(f"next: cd {name} && python -m pytest", err=True)
