"""The serial ports of this machine, as `inphase ports` lists them: names that stay, and rights.

A scan of a port asks who answers there. Drivers know how to ask their devices (`Driver.scan`).
"""

import contextlib
import itertools
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import click
from serial.tools import list_ports

from inphase.command.screen import screen, table
from inphase.devices.driver_names import installed_drivers
from inphase.devices.serial_port import missing_right
from inphase.driver import Driver, Scan
from inphase.errors import DeviceError, ScheduleError
from inphase.host.locks import DeviceLock
from inphase.schedule.import_by_name import resolve_call

BY_ID = Path("/dev/serial/by-id")
_FOR_GOOD = "`inphase udev SCHEDULE` gives it a name that stays"
_SCAN = "scan"  # the name of the device in a lock's and a port's messages


class SerialPort(NamedTuple):
    """One serial port."""

    path: str
    """the name that stays when it is plugged in elsewhere, where there is one"""
    device: str
    """the name that the kernel gave it"""
    about: str
    """maker and product, as the adapter says them"""
    usb_id: str
    """vendor and product, as `0403:6014`; empty: it is no USB device"""
    serial_number: str
    remedy: str
    """how it may be opened; empty: it may be"""


def all_ports() -> list[SerialPort]:
    """All of them, USB adapters first; a port that is built in and has no chip is none."""
    found = [_port(info) for info in list_ports.comports()]
    return sorted(found, key=lambda port: (port.usb_id == "", port.device))


def _port(info: Any) -> SerialPort:
    usb = "" if info.vid is None else f"{info.vid:04x}:{info.pid:04x}"
    words = [info.manufacturer, info.product or info.description]
    about = " ".join(word for word in words if word and word != "n/a")
    serial_number = info.serial_number or ""
    remedy = missing_right(info.device) or ""
    return SerialPort(_lasting(info.device), info.device, about, usb, serial_number, remedy)


def _lasting(device: str) -> str:
    """The link in BY_ID that leads to a device, or itself."""
    if BY_ID.is_dir():
        for link in sorted(BY_ID.iterdir()):
            if os.path.realpath(link) == os.path.realpath(device):
                return str(link)
    return device


def show(*, as_json: bool) -> None:
    """Print all ports."""
    found = all_ports()
    if as_json:
        print(json.dumps([port._asdict() for port in found]))
        return
    for port in found:
        about = ", ".join(filter(None, (port.about, port.usb_id, port.serial_number)))
        click.echo(f"{port.path}" + (f" ({port.device})" if port.path != port.device else ""))
        click.echo(f"    {about or 'built in'}")
        if port.remedy:
            click.echo(f"    {port.remedy}")
        if port.path == port.device and port.usb_id:
            click.echo(f"    {port.path} may be another port later: {_FOR_GOOD}")
    if not found:
        click.echo(
            "no serial port; plug the adapter in, and look at: sudo dmesg --follow", err=True
        )


# ---- who answers -----------------------------------------------------------------------------


def scan(path: str) -> dict[str, Scan]:
    """Ask on one port for the devices of every driver that can ask; by the driver's name.

    The port is locked as a runtime locks it: one that a runtime has is not written to. Raises
    DeviceError.
    """
    try:
        lock = DeviceLock(_SCAN, path, "of `inphase ports --scan`")
        with contextlib.closing(lock):
            found = {name: _ask(name, driver, path) for name, driver in _drivers().items()}
    except DeviceError as error:
        raise DeviceError(str(error).removeprefix(f"device {_SCAN}: ")) from error
    return {name: one for name, one in found.items() if one is not None}


def _ask(name: str, driver: type[Driver], path: str) -> Scan | None:
    """The driver's scan; one that fails keeps no other from asking. Raises DeviceError."""
    try:
        return driver.scan(path)
    except DeviceError:
        raise
    except Exception as error:  # a driver may be anybody's
        text = f"the scan of driver {name} failed, and says nothing of its devices: {error!r}"
        return Scan(f"{name} (it failed)", (), (text,))


def _drivers() -> dict[str, type[Driver]]:
    """The drivers that can be imported here, by name."""
    found = {}
    for offer in installed_drivers():
        with contextlib.suppress(ScheduleError):  # its library is not installed
            driver = resolve_call(offer.call, Path())
            if isinstance(driver, type) and issubclass(driver, Driver):
                found[offer.name] = driver
    return found


def show_scan(path: str, *, as_json: bool) -> None:
    """Print who answers on a port. Raises DeviceError, also where nobody does."""
    click.echo(f"{path}: asks who is there; half a minute at most", err=True)
    scans = scan(path)
    facts = [
        {"driver": name, **found._asdict()} for name, one in scans.items() for found in one.found
    ]
    remarks = [remark for one in scans.values() for remark in one.remarks]
    questions = [one.question for one in scans.values()]
    if as_json:
        print(
            json.dumps({"port": path, "found": facts, "remarks": remarks, "questions": questions})
        )
    elif facts:
        _print_found(path, scans)
    for remark in remarks:
        click.echo(remark, err=True)
    if not facts:
        raise DeviceError(
            f"{path}: nothing answers; asked was: {'; '.join(questions)}. Check that the devices "
            f"have power, that the data line and ground are connected, and that this is their port"
        )


def _print_found(path: str, scans: dict[str, Scan]) -> None:
    made = table(f"answers on {path}", ("driver", "id", "model", "firmware", "baud"))
    for name, one in scans.items():
        for found in one.found:
            made.add_row(name, str(found.ident), found.model, found.firmware, str(found.baud))
    screen().print(made)
    for name, one in scans.items():
        for baud, group in itertools.groupby(one.found, lambda found: found.baud):
            click.echo(f'driver = "{name}"\nport = "{path}"\nbaud = {baud}')
            click.echo(f"ids = {[found.ident for found in group]}")
