"""Services on the network, found by mDNS (zeroconf): which robots are where.

An answer is a hint by anybody on that network. It is no proof: the key of a user has the public key
of the service, and whoever connects talks to that one alone.
"""

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inphase.errors import ServiceError, install

SERVICE_TYPE = "_inphase._tcp.local."
ROBOTS_MAX = 32
"""that a service tells"""
SERVICES_MAX = 256
_NAME = re.compile(r"[a-z0-9_-]{1,32}")
_KEY = re.compile(r"[!-~]{8}")
_ASK_MS = 1000


class FoundService(NamedTuple):
    """A service that says that it is there."""

    address: str
    """`tcp://HOST:PORT`, for `inphase.connect`"""
    robots: tuple[str, ...]
    """their names"""
    fingerprint: str
    """the first letters of its public key; empty: it tells none"""


def properties_of(robots: Sequence[str], fingerprint: str) -> dict[str, str]:
    """The properties that a service tells of itself: names and a part of a public key."""
    named = {f"robot{number}": name for number, name in enumerate(robots[:ROBOTS_MAX])}
    return {"key": fingerprint, **named}


def found_service(
    addresses: Sequence[str], port: int, properties: Mapping[bytes, bytes | None]
) -> FoundService | None:
    """The service that properties are of; None: it is none of ours, or garbled.

    Its texts are made of letters of a name, and so may be printed.
    """
    texts = {
        key.decode("ascii", "replace"): (value or b"").decode("ascii", "replace")
        for key, value in properties.items()
    }
    robots = [texts.get(f"robot{number}", "") for number in range(ROBOTS_MAX)]
    named = tuple(name for name in robots if _NAME.fullmatch(name))
    if not addresses or not port or not named:
        return None
    host = f"[{addresses[0]}]" if ":" in addresses[0] else addresses[0]
    key = texts.get("key", "")
    return FoundService(f"tcp://{host}:{port}", named, key if _KEY.fullmatch(key) else "")


def find_services(
    seconds: float = 2.5, interfaces: Sequence[str] | None = None
) -> list[FoundService]:
    """The services that answer within so many seconds, by address.

    interfaces: addresses of this machine to ask on; None: all. Raises ServiceError.
    """
    try:
        from zeroconf import DNSQuestionType, InterfaceChoice, ServiceBrowser, Zeroconf
    except ImportError as error:
        raise ServiceError(f"mDNS needs the package zeroconf; {install('zeroconf')}") from error
    asked_on: Any = InterfaceChoice.All
    if interfaces is not None:
        asked_on = _checked(interfaces)
    try:
        zeroconf = Zeroconf(interfaces=asked_on)
    except OSError as error:
        raise ServiceError(
            f"nobody can be asked by mDNS here: {error}; give --service ADDRESS"
        ) from error
    try:
        # an answer to one socket goes to another one of this host that has the port, too
        to_all = DNSQuestionType.QM
        heard = _Heard()
        browser = ServiceBrowser(zeroconf, SERVICE_TYPE, [heard.change], question_type=to_all)
        time.sleep(seconds)
        browser.cancel()
        infos = [
            zeroconf.get_service_info(SERVICE_TYPE, name, _ASK_MS, to_all)
            for name in sorted(heard.names)
        ]
    finally:
        zeroconf.close()
    told = [
        found_service(info.parsed_addresses(), info.port or 0, info.properties)
        for info in infos
        if info is not None  # else it tells nothing any more
    ]
    return sorted({one for one in told if one is not None})


def _checked(interfaces: Sequence[str]) -> list[str]:
    """Addresses, which the library would leave out without a word where this machine has them not.

    Raises ServiceError.
    """
    import ifaddr

    ours = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    for address in interfaces:
        if address not in ours:
            raise ServiceError(
                f"{address} is no address of this machine, which can be asked on; it has "
                f"{', '.join(ours)}"
            )
    return list(interfaces)


class _Heard:
    """The names of services that were told. Thread: the library's, until its browser ends."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def change(self, zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        """One has come, changed or gone; the library names its arguments so."""
        if state_change.name == "Removed":
            self.names.discard(name)
        elif len(self.names) < SERVICES_MAX:
            self.names.add(name)
