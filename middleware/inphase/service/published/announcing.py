"""Tells the network by mDNS (zeroconf) which robots are served here, on the listening interfaces.

Names of robots, addresses and a part of the public key are told, and nothing else.
"""

import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from inphase.client.finding import SERVICE_TYPE, properties_of
from inphase.errors import install
from inphase.service.doors import RemotePlaces

_JOIN_S = 5.0


class Announcer:
    """Announces one service until it is closed. Its thread starts with `start`; nobody waits.

    say: takes a message for a person, on that thread.
    """

    def __init__(
        self,
        places: RemotePlaces,
        robots: Sequence[str],
        fingerprint: str,
        say: Callable[[str], None],
    ) -> None:
        self._places = places
        self._properties = properties_of(robots, fingerprint)
        self._say = say
        self._zeroconf: Any = None
        self._thread = threading.Thread(target=self._announce, name="inphase mdns", daemon=True)

    def start(self) -> None:
        """From here on it is announced."""
        self._thread.start()

    def _announce(self) -> None:
        try:
            from zeroconf import ServiceInfo, Zeroconf
        except ImportError:
            self._say(
                f"not announced by mDNS: it needs the package zeroconf; {install('zeroconf')}"
            )
            return
        try:
            addresses, interface = listening_at(self._places.host)
            if not addresses:
                self._say(f"not announced by mDNS: {self._places.host} has no IPv4 address")
                return
            name = f"{socket.gethostname().partition('.')[0]}-{self._places.port}"
            info = ServiceInfo(
                SERVICE_TYPE,
                f"{name}.{SERVICE_TYPE}",
                self._places.port,
                properties=self._properties,
                server=f"inphase-{secrets.token_hex(8)}.local.",
                parsed_addresses=addresses,
            )
            self._zeroconf = Zeroconf(interfaces=addresses)
            if interface:
                _keep_to(self._zeroconf, interface)
            self._zeroconf.register_service(info, allow_name_change=True)
        except Exception as error:  # of the network, and of the package: robots are served anyway
            self._say(f"not announced by mDNS: {error!r}; clients give the address by --service")

    def close(self) -> None:
        """Take it back."""
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        if self._zeroconf is not None:
            self._zeroconf.unregister_all_services()
            self._zeroconf.close()
            self._zeroconf = None


def listening_at(host: str) -> tuple[list[str], str]:
    """The IPv4 addresses of this machine at which a socket bound to `host` is reached from where
    that makes sense, and the interface that they are of.

    host: an address, a name, or an interface's name. `0.0.0.0` and `*` are all interfaces, which
    have no name, and the addresses are those beside loopback. Raises OSError for an unknown name.
    """
    import ifaddr

    by_name = {
        adapter.nice_name: [str(ip.ip) for ip in adapter.ips if ip.is_IPv4]
        for adapter in ifaddr.get_adapters()
    }
    if host in by_name:
        return by_name[host], host
    if host in ("*", "0.0.0.0"):
        every = [one for found in by_name.values() for one in found]
        return [one for one in every if not ipaddress.ip_address(one).is_loopback], ""
    if ":" in host:
        return [], ""
    *_, place = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)[0]
    address = str(place[0])
    if ipaddress.ip_address(address).is_loopback:
        return [address], "lo"
    names = [name for name, found in by_name.items() if address in found]
    return ([address], names[0]) if names else ([], "")


def _keep_to(zeroconf: Any, interface: str) -> None:
    """Let the library's sockets hear and say nothing on other interfaces of this machine.

    Its listening socket has no address of its own: the kernel would give it each question that
    any interface hears.
    """
    for wrapped in (*zeroconf.engine.readers, *zeroconf.engine.senders):
        made = wrapped.transport.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
