"""The rules of a schedule's addresses: of its gateway, its page, a remote policy and devices."""

import ipaddress
import os
import re
from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.inspection import Inspection
from inphase.schedule.table import known_of
from inphase.schedule.tables import Schedule

_IPC_BYTES_MAX = 107  # sun_path of a Unix socket, without its final zero


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    for key in ("endpoint", "control"):
        inspection.apply(_check_gateway, key)
    inspection.apply(_check_control_is_another)
    inspection.apply(_check_page)
    inspection.apply(_check_remote)
    inspection.each("device", _check_port)


def _check_gateway(schedule: Schedule, key: str) -> Iterator[ScheduleFault]:
    gateway = schedule.gateway
    address = None if gateway is None else getattr(gateway, key)
    if gateway is None or address is None:
        return
    if key == "endpoint":
        elsewhere = "" if gateway.keys is not None else _WANTS_KEYS
        yield from _check_address(schedule, "gateway.endpoint", address, elsewhere)
        return
    troubles = list(_check_address(schedule, "gateway.control", address, _ASKS_FOR_NO_KEY))
    yield from troubles
    if not troubles and gateway.keys is not None and address.startswith("tcp://"):
        yield schedule.fault(
            "gateway.control",
            f"{address!r} would take requests of every user of this machine, and the gateway has "
            f"keys; use ipc:///path, and `inphase serve` for requests with a key",
        )


def _check_control_is_another(schedule: Schedule) -> Iterator[ScheduleFault]:
    gateway = schedule.gateway
    if gateway is not None and gateway.control == gateway.endpoint:
        yield schedule.fault(
            "gateway.control", f"the same address as endpoint, {gateway.control!r}; give another"
        )


def _check_page(schedule: Schedule) -> Iterator[ScheduleFault]:
    if schedule.page is None:
        return
    address = schedule.page.address
    host, colon, port = address.rpartition(":")
    if not (colon and re.fullmatch(r"[0-9]{1,5}", port) and int(port) < 65_536):
        yield schedule.fault(
            "page.address", f"no port, got {address!r}; give one, as in 127.0.0.1:8470"
        )
    elif not _is_loopback(host) and not _is_number(host):
        yield schedule.fault(
            "page.address",
            f"{address!r} is no address of this machine; give a number, or all of them: "
            f"0.0.0.0:{port}",
        )
    elif not _is_loopback(host) and schedule.page.keys is None:
        yield schedule.fault(
            "page.address",
            f"{address!r} can be reached from elsewhere, and nobody has to sign in; add keys = a "
            f"folder of them (inphase keys create NAME --folder FOLDER), or use 127.0.0.1:{port}, "
            f"and from another machine: ssh -L {port}:localhost:{port} ROBOT",
        )
    yield from _check_certificate(schedule)


def _check_certificate(schedule: Schedule) -> Iterator[ScheduleFault]:
    page = schedule.page
    assert page is not None
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if getattr(page, one) is None:
            continue
        if getattr(page, other) is None:
            yield schedule.fault(f"page.{one}", f"it is of no use alone; add {other} = a PEM file")
        elif page.keys is None:
            yield schedule.fault(
                f"page.{one}", "a page without keys is not encrypted; add keys = a folder of them"
            )


def _check_remote(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is None or policy.remote is None:
        return
    troubles = list(_check_address(schedule, "policy.remote", policy.remote, _IS_NEAR))
    yield from troubles
    gateway = schedule.gateway
    if (
        not troubles
        and gateway is not None
        and policy.remote in (gateway.endpoint, gateway.control)
    ):
        yield schedule.fault(
            "policy.remote", f"an address of the gateway, {policy.remote!r}; give another"
        )


_NEAR = "use ipc:///path or tcp://127.0.0.1:PORT"
_WANTS_KEYS = (
    f"that needs keys; add keys = a folder of them (inphase keys create NAME --folder FOLDER), "
    f"or {_NEAR}"
)
_ASKS_FOR_NO_KEY = f"requests have no keys; {_NEAR}, and `inphase serve` for those with a key"
_IS_NEAR = f"a remote policy has no keys; {_NEAR}"


def _check_address(
    schedule: Schedule, key: str, address: str, elsewhere: str
) -> Iterator[ScheduleFault]:
    """elsewhere: the remedy for an address that others can reach; empty: it is allowed."""
    kind, _, rest = address.partition("://")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, ""
    if kind == "ipc" and rest.startswith("@"):
        name = known_of(schedule).get("name", "ROBOT")
        yield schedule.fault(
            key,
            f"{address!r} is an abstract name, which has no owner and no mode: every user could "
            f"connect; give a file, as in ipc:///tmp/{name}/socket",
        )
    elif kind == "ipc" and rest.startswith("/") and len(rest) > 1:
        if len(rest.encode()) > _IPC_BYTES_MAX:
            yield schedule.fault(
                key,
                f"the path has {len(rest.encode())} bytes, a socket takes {_IPC_BYTES_MAX}, "
                f"got {address!r}; give a shorter one",
            )
    elif kind == "tcp" and (_is_loopback(host) or (not elsewhere and _is_own(host))):
        if not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65_536):
            yield schedule.fault(
                key, f"no port, got {address!r}; give one, as in tcp://127.0.0.1:5555"
            )
    elif kind == "tcp" and elsewhere:
        yield schedule.fault(key, f"{address!r} can be reached from elsewhere: {elsewhere}")
    elif kind == "tcp":
        yield schedule.fault(
            key,
            f"not an address of this machine, got {address!r}; give a number, or all of them: "
            f"tcp://0.0.0.0:5555",
        )
    else:
        yield schedule.fault(
            key, f"not an address, got {address!r}; use ipc:///path or tcp://127.0.0.1:PORT"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host == "localhost"


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _is_own(host: str) -> bool:
    """A number, which libzmq listens at; it looks no name up."""
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return host == "*"
    return True


def _check_port(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    """No two devices are at one place, as far as their own keys say it."""
    options = schedule.device[name].options
    key = "host" if options.get("port") is None else "port"
    if options.get(key) is None:
        return
    for other in list(schedule.device)[: list(schedule.device).index(name)]:
        if is_one_place(options, schedule.device[other].options):
            yield schedule.fault(
                f"device.{name}.{key}",
                f"{options[key]!r} is where the device {other!r} is already; "
                f"give each device its own, or one driver that serves both",
            )
            return


def is_one_place(options: dict[str, object], other: dict[str, object]) -> bool:
    """True if the keys of two devices name one place."""
    if options.get("host") is None and options.get("port") is None:
        return False
    if repr(options.get("host")) != repr(other.get("host")):
        return False
    port, taken = options.get("port"), other.get("port")
    if isinstance(port, str) and isinstance(taken, str) and port[:1] == taken[:1] == "/":
        return os.path.realpath(port) == os.path.realpath(taken)  # two names of one terminal
    return repr(port) == repr(taken)
