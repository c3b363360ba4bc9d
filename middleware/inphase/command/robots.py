"""`inphase robots` and `leases`: which robots are served, and who had them."""

import time
from datetime import datetime
from pathlib import Path

import click

from inphase.host.standard_streams import print_json


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, 60),
    default=2.5,
    show_default=True,
    help="so long answers of the network are waited for",
)
@click.option(
    "--interface", "interfaces", multiple=True, help="only ask on this address of this machine"
)
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def robots(*, seconds: float, interfaces: tuple[str, ...], as_json: bool) -> None:
    """List robots that are served: by this user on this host, and on the network, by mDNS.

    The key is the beginning of the service's public key. Your key file has the whole of it.
    """
    from inphase.command.screen import screen, table

    found = [*_here(), *_elsewhere(seconds, interfaces)]
    if as_json:
        print_json(found)
        return
    made = table("Robots that are served", ("robot", "service", "key"))
    for one in found:
        made.add_row(one["robot"], one["service"], one["key"])
    screen().print(made)
    if not found:
        click.echo("no service was heard; start one: inphase serve SCHEDULE", err=True)


def _here() -> list[dict[str, str]]:
    """Those of this user's service on this host, if it has one."""
    from inphase.client.connection import ServiceConnection
    from inphase.errors import ServiceError

    connection = ServiceConnection()
    try:
        told = connection.ask("robots", timeout_s=0.5)["robots"]
    except ServiceError:
        return []
    finally:
        connection.close()
    return [{"robot": one["robot"], "service": "this host", "key": ""} for one in told]


def _elsewhere(seconds: float, interfaces: tuple[str, ...]) -> list[dict[str, str]]:
    """Those that are found by mDNS."""
    from inphase.client.finding import find_services
    from inphase.errors import ServiceError

    try:
        found = find_services(seconds, interfaces or None)
    except ServiceError as error:
        if interfaces:  # it was to be asked there
            raise
        click.echo(f"only this host was looked at: {error}", err=True)
        return []
    return [
        {"robot": robot, "service": service.address, "key": service.fingerprint}
        for service in found
        for robot in service.robots
    ]


@click.command()
@click.argument("robot", required=False)
@click.option("--service", default="", help="its address; left out: this user's, on this host")
@click.option(
    "--key",
    type=click.Path(path_type=Path),
    help="your key for a service on the network: a file of `inphase keys create`",
)
@click.option("--user", default="", help="only those of this user")
@click.option("--days", type=click.FloatRange(min=0), help="only those of so many days")
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def leases(
    *,
    robot: str | None,
    service: str,
    key: Path | None,
    user: str,
    days: float | None,
    as_json: bool,
) -> None:
    """List who had ROBOT, or any robot, the newest first: when, how it ended, what it left.

    At most 100 leases are listed.
    """
    from inphase.client.connection import ServiceConnection
    from inphase.command.screen import screen, table

    since_s = 0.0 if days is None else time.time() - days * 86_400
    connection = ServiceConnection(service, key)
    try:
        answer = connection.ask("leases", robot=robot or "", user=user, since_s=since_s)
        found = answer["leases"]
    finally:
        connection.close()
    if as_json:
        print_json(found)
        return
    made = table(
        "Leases",
        ("robot", "lease", "user", "granted", "seconds", "ended by", "recording"),
        left=("robot", "user", "granted", "ended by", "recording"),
    )
    for one in found:
        at = datetime.fromtimestamp(one["granted_s"]).isoformat(" ", "seconds")
        ended = one["ended_s"] is not None
        lasted = f"{one['ended_s'] - one['granted_s']:.1f}" if ended else ""
        why = " ".join(filter(None, (one["why"], one["result"]))) if ended else "goes on"
        name = Path(one["recording"]).name if one["recording"] else "none"
        made.add_row(one["robot"], str(one["number"]), one["user"], at, lasted, why, name)
    screen().print(made)


COMMANDS = (robots, leases)
