"""Drivers that installed packages offer, by the names that a schedule may use for them.

A package offers one with an entry point of the group `inphase.drivers`, in its pyproject.toml:

    [project.entry-points."inphase.drivers"]
    netft = "inphase_drivers.ati:NetFT"
"""

from pathlib import Path
from typing import NamedTuple

from inphase.errors import ScheduleError
from inphase.schedule.import_by_name import resolve_call

GROUP = "inphase.drivers"
_HERE = Path()


class Installed(NamedTuple):
    """One driver that a package offers."""

    name: str
    call: str
    """module:Class"""
    package: str

    def about(self) -> str:
        """The first line of its class's docstring. Imports it; raises ScheduleError."""
        text = resolve_call(self.call, _HERE).__doc__ or ""
        return text.strip().partition("\n")[0]


def installed_drivers() -> list[Installed]:
    """All of them, by name; one that a package offers twice is there once."""
    from importlib import metadata  # imported where it is used: as slow as a quarter of NumPy

    found = {
        Installed(point.name, point.value, point.dist.name if point.dist else "?")
        for point in metadata.entry_points(group=GROUP)
    }
    return sorted(found)


def resolve_driver(driver: str, folder: Path) -> object:
    """The driver that a schedule in `folder` names: a call, or an installed driver's name.

    Raises ScheduleError, which lists the known names.
    """
    if ":" in driver:
        return resolve_call(driver, folder)
    offers = installed_drivers()
    calls = sorted({offer.call for offer in offers if offer.name == driver})
    if len(calls) == 1:
        return resolve_call(calls[0], folder)
    if calls:
        raise ScheduleError(f"{driver!r} is offered as {' and as '.join(calls)}; give one of them")
    names = ", ".join(dict.fromkeys(offer.name for offer in offers)) or "none"
    raise ScheduleError(
        f"no installed driver is named {driver!r}; there are: {names}; install the package that "
        f'has it, or give "module:Class" or "file.py:Class"'
    )
