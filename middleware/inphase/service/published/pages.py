"""The web pages of all robots of a service: one port after the other."""

import ipaddress
from pathlib import Path
from typing import NamedTuple

from inphase.errors import ServiceError
from inphase.schedule.simulation_tables import Page

_PORT_MAX = 65_535


class PagePlace(NamedTuple):
    """Where the first page listens, and its certificate."""

    host: str
    """a number"""
    port: int
    """0: a free one for each"""
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, address: str, certificate: Path | None, key: Path | None) -> "PagePlace":
        """From HOST:PORT. Raises ServiceError."""
        host, _, port = address.rpartition(":")
        try:
            ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        except ValueError:
            host = "127.0.0.1" if host == "localhost" else ""
        if not host or not port.isdecimal() or int(port) > _PORT_MAX:
            raise ServiceError(
                f"--page {address}: no address of this machine and port; give one, such as "
                f"0.0.0.0:8470"
            )
        if (certificate is None) != (key is None):
            raise ServiceError(
                "a certificate and its key belong together; give --certificate FILE and "
                "--certificate-key FILE"
            )
        return cls(host, int(port), certificate, key)


def page_of(place: PagePlace | None, keys: Path, number: int) -> Page | None:
    """The page of the robot of that number, from 0. keys: the folder of those who may sign in.

    A page of loopback asks nobody for a key, unless a certificate is given.
    """
    if place is None:
        return None
    address = f"{place.host}:{place.port + number if place.port else 0}"
    host = ipaddress.ip_address(place.host.removeprefix("[").removesuffix("]"))
    if host.is_loopback and place.certificate is None:
        return Page(address=address)
    certificate, key = (
        None if path is None else str(path.absolute()) for path in (place.certificate, place.key)
    )
    return Page(
        address=address, keys=str(keys.expanduser().absolute()), certificate=certificate, key=key
    )
