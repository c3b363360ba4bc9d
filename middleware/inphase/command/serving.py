"""`inphase serve`: robots as a service."""

import signal
import sys
from pathlib import Path

import click


@click.command()
@click.argument("schedules", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--simulate", is_flag=True, help="in real time, in the schedules' simulated worlds")
@click.option(
    "--listen",
    default="",
    help="tcp://HOST:PORT on the network, for who has a key; and the ports on",
)
@click.option(
    "--page",
    metavar="HOST:PORT",
    help="a web page for every robot, one port after the other; beyond loopback for who has a key",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="PEM file of the pages' certificate  [default: one is made]",
)
@click.option("--certificate-key", type=click.Path(path_type=Path), help="PEM file of its key")
@click.option("--no-announce", is_flag=True, help="do not tell the network of it by mDNS")
@click.option("--keys", type=click.Path(path_type=Path), help="the folder of keys")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True, max=1),
    default=0.25,
    show_default=True,
    help="the share of the velocity limits that is allowed",
)
@click.option("--folder", type=click.Path(path_type=Path), help="of its history and recordings")
@click.option("--unit", is_flag=True, help="print a systemd unit that serves so, and end")
@click.option("--no-record", is_flag=True, help="make no recording of each lease")
@click.option(
    "--longest",
    type=click.FloatRange(min=1),
    default=900.0,
    show_default=True,
    help="seconds of a lease at most",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=1),
    default=10.0,
    show_default=True,
    help="seconds of silence after which a lease is the next user's",
)
def serve(
    *,
    schedules: tuple[Path, ...],
    simulate: bool,
    listen: str,
    page: str | None,
    certificate: Path | None,
    certificate_key: Path | None,
    no_announce: bool,
    keys: Path | None,
    speed: float,
    folder: Path | None,
    no_record: bool,
    unit: bool,
    longest: float,
    grace: float,
) -> None:
    """Keep the robots that SCHEDULES describe up, each for whoever holds its lease."""
    from inphase.errors import ServiceError
    from inphase.plan.validation import load
    from inphase.service.leases import LeaseRules
    from inphase.service.published.pages import PagePlace
    from inphase.service.service import Service, ServiceOptions
    from inphase.service.unit import unit_of

    described = [load(path) for path in schedules]
    if unit:
        arguments = _without_unit(sys.argv[2:], schedules)
        click.echo(unit_of(described, arguments, speed), nl=False)
        return
    if page is None and (certificate or certificate_key):
        raise ServiceError("a certificate is for web pages; give --page 0.0.0.0:8470, too")
    options = ServiceOptions(
        simulate=simulate,
        speed=speed,
        listen=listen,
        page=PagePlace.parse(page, certificate, certificate_key) if page else None,
        announce=not no_announce,
        keys=keys,
        record=not no_record,
        folder=folder,
        rules=LeaseRules(longest_s=longest, grace_s=grace),
    )
    service = Service(described, options, lambda text: print(text, file=sys.stderr))
    signal.signal(signal.SIGINT, service.stop)
    signal.signal(signal.SIGTERM, service.stop)
    try:
        service.start()
        print(f"serving at {service.addresses['control']}", file=sys.stderr)
        service.serve()
    finally:
        service.close()


def _without_unit(arguments: list[str], schedules: tuple[Path, ...]) -> list[str]:
    """The options as they were typed, for the unit."""
    left_out = {"--unit", *map(str, schedules)}
    return [one for one in arguments if one not in left_out]


COMMANDS = (serve,)
