"""The serial ports of this machine, as `inphase ports` lists them: names that stay, and rights."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from serial.tools import list_ports

from inphase.devices.serial_port import missing_right

BY_ID = Path("/dev/serial/by-id")


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
