"""Interrupts of this machine: whose they are, on which core, and how a device leads to one."""

import re
from pathlib import Path
from typing import NamedTuple

from inphase.host.machine import cpu_list, text_of

_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_USB = re.compile(r"\d+-\d+(?:\.\d+)*")


class Interrupt(NamedTuple):
    """One interrupt of a device."""

    number: int
    name: str
    """of its handlers, such as `xhci_hcd`"""
    cpus: frozenset[int]
    """the cores that take it"""
    counts: tuple[int, ...]
    """how often it came since the start of the machine, by core"""


class Chain(NamedTuple):
    """The way from a device to the cores that take its interrupts."""

    device: str
    """as the schedule names it: a port or an interface"""
    links: tuple[str, ...]
    """what lies between, from the device on"""
    numbers: tuple[int, ...]
    """of the interrupts at its end; none: they are not told here"""
    usb: str
    """the folder of the USB device under /sys, empty: it is none"""


def interrupts(root: Path = Path("/")) -> list[Interrupt]:
    """All that a device has asked for and that ever came, or may come. `root` stands in front of
    /proc and /sys."""
    found = []
    folder = root / "sys/kernel/irq"
    numbers = (int(path.name) for path in folder.iterdir()) if folder.is_dir() else ()
    for number in sorted(numbers):
        name = text_of(folder / str(number) / "actions")
        if not name:
            continue  # nobody listens to it
        counts = (text_of(folder / str(number) / "per_cpu_count") or "").split(",")
        own = root / "proc/irq" / str(number)
        cores = text_of(own / "effective_affinity_list") or text_of(own / "smp_affinity_list")
        taken = tuple(int(one) for one in counts if one.isdigit())
        found.append(Interrupt(number, name, cpu_list(cores), taken))
    return found


def chain(device: str, root: Path = Path("/")) -> Chain | None:
    """The chain of a serial port's path or of a network interface's name; None: neither is here.

    It is read from where the kernel has the device in its tree.
    """
    name = Path(device).resolve().name if device.startswith("/") else device
    kind = "tty" if device.startswith("/") else "net"
    place = root / "sys/class" / kind / name / "device"
    if not place.exists():
        return None
    path = place.resolve()
    usb = next((part for part in (path, *path.parents) if _USB.fullmatch(part.name)), None)
    pci = next((part for part in (path, *path.parents) if _PCI.fullmatch(part.name)), None)
    links = [name]
    if usb is not None:
        links.append(f"USB {usb.name}")
    if pci is None:
        return Chain(device, tuple(links), (), "" if usb is None else str(usb))
    driver = pci / "driver"
    controller = driver.resolve().name if driver.exists() else "PCI"
    links.append(f"{controller} {pci.name}")
    messages = pci / "msi_irqs"
    if messages.is_dir():
        numbers = tuple(sorted(int(one.name) for one in messages.iterdir()))
    else:
        line = text_of(pci / "irq") or ""
        numbers = (int(line),) if line.isdigit() and line != "0" else ()
    return Chain(device, tuple(links), numbers, "" if usb is None else str(usb))
