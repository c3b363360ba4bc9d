"""The page's address: the one of the schedule, or a free port where another process has that."""

import errno
import ipaddress
import socket

from inphase.errors import ViewError

_BACKLOG = 128
_TAKEN = (errno.EADDRINUSE, errno.EACCES)
_ELSEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""addresses of documentation: the way there is that to the network, and nothing is sent"""


def listen(address: str, *, is_exact: bool = False) -> socket.socket:
    """A listening socket at HOST:PORT. A port that is taken, or another user's, is replaced by one
    that is free, unless it is to be exactly that. Raises ViewError."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
        except OSError as error:
            if is_exact or error.errno not in _TAKEN:
                raise
            listener.bind((place[0], 0, *place[2:]))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ViewError(
            f"{address} cannot be listened on: {error.strerror}; give another [page] address"
        ) from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """Where it listens, as HOST:PORT of a URL."""
    host, port = listener.getsockname()[:2]
    return f"{in_url(host)}:{port}"


def in_url(host: str) -> str:
    """A host as a URL has it."""
    return f"[{host}]" if ":" in host else host


def hosts_of(listener: socket.socket) -> list[str]:
    """The addresses of this machine at which others reach a socket, the likeliest first."""
    bound = ipaddress.ip_address(listener.getsockname()[0])
    if not bound.is_unspecified:
        return [str(bound)]
    found = [str(one) for one in own_addresses() if bound.version == 6 or one.version == 4]
    default = _default(listener.family)
    return sorted(found, key=lambda one: (one != default, ipaddress.ip_address(one).is_loopback))


def own_addresses() -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Those of this machine's interfaces now, without those of one link alone."""
    import ifaddr  # a page for this host does without

    texts = [ip.ip if ip.is_IPv4 else ip.ip[0] for one in ifaddr.get_adapters() for ip in one.ips]
    found = dict.fromkeys(ipaddress.ip_address(text) for text in texts if isinstance(text, str))
    return [one for one in found if not one.is_link_local]


def _default(family: int) -> str:
    """The address of this machine on the way to the network; "": there is none."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect((_ELSEWHERE[socket.AddressFamily(family)], 9))
            return str(one.getsockname()[0])
    except OSError:
        return ""
