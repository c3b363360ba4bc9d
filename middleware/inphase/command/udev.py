"""`inphase udev`: the rules that give a schedule's ports their rights, and names that stay.

udev knows a port by its USB serial number. A port without one, or one that shares it, is known by
its USB socket. The facts come from udev's own database, which its rules are matched with.
"""

import grp
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click

from inphase.errors import DeviceError, ScheduleError

FOLDER = Path("/etc/udev/rules.d")
_GROUPS = {"tty": ("dialout", "uucp"), "video4linux": ("video",)}
_PLAIN = re.compile(r"[\w.:+@/#-]+")  # no quote, and nothing that a rule takes as a pattern
_TIMEOUT_S = 20.0

Properties = Mapping[str, str]


class KnownPort(NamedTuple):
    """One port of a schedule as udev knows it."""

    link: str
    """below /dev: the name that it gets"""
    rules: tuple[str, ...]
    about: str
    """how it is known, for a person"""


def nodes_in(database: str) -> dict[str, dict[str, str]]:
    """Properties of each device file, by its path, from the text of `udevadm info --export-db`."""
    found = {}
    for block in database.split("\n\n"):
        lines = [line[3:] for line in block.splitlines() if line.startswith("E: ")]
        properties = dict(line.partition("=")[::2] for line in lines)
        if "DEVNAME" in properties:
            found[properties["DEVNAME"]] = properties
    return found


def port_of(device: str, path: str, link: str, nodes: Mapping[str, Properties]) -> KnownPort:
    """The rules of one port. path: the device file itself. Raises DeviceError."""
    properties = nodes.get(path)
    if properties is None or properties.get("SUBSYSTEM") not in _GROUPS:
        raise DeviceError(
            f"device {device}: udev knows {path} as no serial port and no camera; give the path of "
            f"one in --port {device}=PATH"
        )
    subsystem = properties["SUBSYSTEM"]
    keys, about = _known_by(properties, nodes)
    match = ", ".join([f'SUBSYSTEM=="{subsystem}"', *(f'{key}=="{keys[key]}"' for key in keys)])
    group = _group_of(subsystem)
    given = [f'GROUP="{group}"', 'MODE="0660"', f'SYMLINK+="{link}"']
    if subsystem == "tty":  # ModemManager writes to ports that may be modems
        given.insert(2, 'ENV{ID_MM_DEVICE_IGNORE}="1"')
    rules = [f"{match}, {', '.join(given)}"]
    if properties.get("ID_USB_DRIVER") == "ftdi_sio":
        rules.append(
            'ACTION=="add", SUBSYSTEM=="usb-serial", DRIVER=="ftdi_sio", ATTR{latency_timer}="1"'
        )
    return KnownPort(link, tuple(rules), f"device {device}, {path}: {about}")


def _known_by(properties: Properties, nodes: Mapping[str, Properties]) -> tuple[Properties, str]:
    """The keys that a rule matches, and the same for a person."""
    name = Path(properties["DEVNAME"]).name
    if "ID_VENDOR_ID" not in properties:
        return {"KERNEL": name}, "built in, known by the kernel's name"
    wanted = ("ID_VENDOR_ID", "ID_MODEL_ID", "ID_USB_INTERFACE_NUM", "ID_V4L_CAPABILITIES")
    kind = {f"ENV{{{key}}}": properties[key] for key in wanted if properties.get(key)}
    serial, place = properties.get("ID_SERIAL_SHORT", ""), properties.get("ID_PATH", "")
    same = [
        one["DEVNAME"]
        for one in nodes.values()
        if all(
            one.get(key) == properties.get(key) for key in ("SUBSYSTEM", *wanted, "ID_SERIAL_SHORT")
        )
    ]
    if _PLAIN.fullmatch(serial) and len(same) == 1:
        return kind | {"ENV{ID_SERIAL_SHORT}": serial}, f"known by its serial number {serial}"
    if not _PLAIN.fullmatch(place):
        raise DeviceError(
            f"{properties['DEVNAME']} has no serial number of its own, and udev names no socket of "
            f"it; use an adapter with a serial number"
        )
    why = f"{' and '.join(sorted(same))} have one serial number" if len(same) > 1 else "no serial"
    return kind | {"ENV{ID_PATH}": place}, f"{why}: known by its USB socket, leave it in there"


def _group_of(subsystem: str) -> str:
    names = _GROUPS[subsystem]
    known = {one.gr_name for one in grp.getgrall()}
    return next((name for name in names if name in known), names[0])


def rules_of(name: str, ports: list[KnownPort]) -> str:
    """The file of rules of a robot."""
    lines = [f"# ports of the robot {name}, by `inphase udev`"]
    told = set[str]()
    for port in ports:
        lines += ["", f"# {port.about}", *(rule for rule in port.rules if rule not in told)]
        told |= set(port.rules)
    return "\n".join((*lines, ""))


def _ask(*arguments: str) -> str:
    """The output of udevadm. Raises DeviceError."""
    tool = shutil.which("udevadm") or shutil.which("udevadm", path="/usr/sbin:/sbin:/bin")
    if tool is None:
        raise DeviceError("this machine has no udevadm: its ports get no rules; install udev")
    done = subprocess.run(
        [tool, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise DeviceError(f"udevadm {' '.join(arguments)} failed: {said}; run it by hand")
    return done.stdout


@click.command()
@click.argument("schedule", type=click.Path(path_type=Path))
@click.option(
    "--port",
    "moved",
    metavar="DEVICE=PATH",
    multiple=True,
    help="where a device is plugged in now, if not at its port",
)
@click.option("--install", is_flag=True, help="write the rules, and have udev obey them")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=FOLDER,
    show_default=True,
    help="of udev's rules",
)
def udev(*, schedule: Path, moved: tuple[str, ...], install: bool, folder: Path) -> None:
    """Print the udev rules for the ports of SCHEDULE: rights, and names that stay.

    Nothing is changed without --install. Plug the devices in first.
    """
    from inphase.schedule import load

    described = load(schedule)
    if not _PLAIN.fullmatch(described.name):
        raise ScheduleError(f"{schedule}: name has characters that a file's name cannot have")
    places = _places(described.path, described.name, described.device, moved)
    nodes = nodes_in(_ask("info", "--export-db"))
    ports = [
        port_of(device, path, f"inphase/{described.name}/{device}", nodes)
        for device, path in places.items()
    ]
    text, file = rules_of(described.name, ports), folder / f"70-inphase-{described.name}.rules"
    click.echo(text, nl=False)
    before = file.read_text() if file.exists() else ""
    if not install:
        state = "is like that already" if before == text else "would be"
        state = "differs" if before and before != text else state
        click.echo(f"{file} {state}; nothing was changed: --install writes it", err=True)
    elif before == text:
        click.echo(f"{file} is like that already", err=True)
    else:
        _install(file, text)
    click.echo("in the schedule:", err=True)
    for device, port in zip(places, ports, strict=True):
        click.echo(f'    [device.{device}]  port = "/dev/{port.link}"', err=True)


def _places(
    path: Path, name: str, devices: Mapping[str, object], moved: tuple[str, ...]
) -> dict[str, str]:
    """The device files of a schedule's ports, by device. Raises ScheduleError, DeviceError."""
    given = dict(one.partition("=")[::2] for one in moved)
    for device in given:
        if device not in devices:
            raise ScheduleError(f"{path}: no device {device!r}; it has: {', '.join(devices)}")
    found = {}
    for device, table in devices.items():
        options: Mapping[str, object] = getattr(table, "options", {})
        port = given.get(device) or options.get("port")
        if not isinstance(port, str) or not port.startswith("/dev/"):
            continue
        if not Path(port).exists():
            raise DeviceError(
                f"device {device}: {port} is not there; plug it in, or say where it is now with "
                f"--port {device}=PATH (`inphase ports` lists all)"
            )
        found[device] = os.path.realpath(port)
    if not found:
        raise ScheduleError(
            f"{path}: no device of {name} has a port below /dev, so it needs no rule; say where "
            f"one is plugged in with --port DEVICE=PATH"
        )
    return found


def _install(file: Path, text: str) -> None:
    """Write the file, and have udev read it and look at the ports again. Raises DeviceError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".half")
        half.write_text(text)
        half.replace(file)
    except OSError as error:
        raise DeviceError(
            f"{file} cannot be written: {error.strerror}; run it as root: sudo env "
            f'"PATH=$PATH" inphase udev --install with the same arguments'
        ) from error
    click.echo(f"{file} was written", err=True)
    _ask("control", "--reload")
    for subsystem in _GROUPS:
        _ask("trigger", "--action=add", f"--subsystem-match={subsystem}")
    _ask("settle")
