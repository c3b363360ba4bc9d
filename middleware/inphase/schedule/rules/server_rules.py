"""The rules of a policy that a server answers, as far as they need no driver."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from inphase.errors import ScheduleFault
from inphase.schedule import toml_position
from inphase.schedule.document import show
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.network_tables import ObservationEntry, PolicyServer
from inphase.schedule.tables import Schedule

_OF_KIND: dict[str, dict[str, object]] = {
    "fields": {"dtype": "float32", "scale": 1.0, "offset": 0.0},
    "image": {"crop": None, "size": None, "layout": "HWC"},
    "text": {},
}
"""the keys that belong to a kind of entry, with their defaults"""
_SIDE_MAX = 4096
_PLACE = re.compile(r"[^.]+\.[^.]+")


def check(inspection: Inspection) -> None:
    """Apply them to a schedule's policy."""
    if inspection.attempt(_server) is None:
        return
    inspection.apply(_check_url)
    inspection.apply(_check_network)
    inspection.apply(_check_history)
    inspection.apply(_check_entries)
    inspection.apply(_check_nesting)
    inspection.apply(_check_order)


def _server(schedule: Schedule) -> PolicyServer | None:
    return schedule.policy.server if schedule.policy is not None else None


def _check_url(schedule: Schedule) -> Iterator[ScheduleFault]:
    server = _server(schedule)
    if server is None:
        return
    try:
        parts = urlsplit(server.url)
        is_good = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
        is_plain = "@" not in parts.netloc and not parts.fragment and server.url.isascii()
    except ValueError:
        is_good = is_plain = False
    if not is_good or not is_plain:
        yield schedule.fault(
            "policy.server.url",
            f"not the address of a WebSocket server, got {server.url!r}; give {MEANING['url']}",
        )


def _check_network(schedule: Schedule) -> Iterator[ScheduleFault]:
    if schedule.policy is not None and "network" not in schedule.policy.allow:
        allow = show([*schedule.policy.allow, "network"])
        yield schedule.fault(
            "policy.allow",
            f'"network" is missing, and the policy\'s process asks a server; give allow = {allow}',
            ("policy.allow",),
        )


def _check_history(schedule: Schedule) -> Iterator[ScheduleFault]:
    if schedule.policy is not None and schedule.policy.history != 1:
        yield schedule.fault(
            "policy.history",
            f"{schedule.policy.history}: a server is sent one frame at a time; remove it, and let "
            f"the server keep what it needs",
        )


def _check_entries(schedule: Schedule) -> Iterator[ScheduleFault]:
    server = _server(schedule)
    for name, entry in {} if server is None else server.observation.items():
        path = ("policy", "server", "observation", name)
        if len(entry.kinds) != 1:
            yield schedule.fault(
                toml_position.format_path(path),
                f"exactly one of fields, image and text is needed, got "
                f"{', '.join(entry.kinds) or 'none'}; keep one, or add one",
            )
            continue
        yield from _check_entry(schedule, path, entry)


def _check_entry(
    schedule: Schedule, path: tuple[str, ...], entry: ObservationEntry
) -> Iterator[ScheduleFault]:
    """The keys of one entry, and the sensors that it names."""
    (kind,) = entry.kinds
    for owner, keys in _OF_KIND.items():
        for key, default in keys.items():
            if owner != kind and getattr(entry, key) != default:
                yield schedule.fault(
                    toml_position.format_path((*path, key)),
                    f"belongs to {owner}, and this entry has {kind}; remove it",
                )
    for key in ("crop", "size"):
        value = getattr(entry, key)
        if value is not None and not _is_sides(value):
            yield schedule.fault(
                toml_position.format_path((*path, key)),
                f"no part of an image, got {show(list(value))}; give {MEANING[key]}, up to "
                f"{_SIDE_MAX}",
            )
    places = entry.fields if entry.fields is not None else [entry.image] if entry.image else []
    for index, place in enumerate(places):
        key = toml_position.format_path((*path, kind, *((index,) if kind == "fields" else ())))
        if not _PLACE.fullmatch(place):
            yield schedule.fault(key, f'not a field, got {place!r}; give "sensor.field"')
        elif place.partition(".")[0] not in schedule.sensor:
            known = ", ".join(schedule.sensor)
            yield schedule.fault(key, f"no such sensor, got {place!r}; the schedule has: {known}")


def _is_sides(value: tuple[int, ...]) -> bool:
    """True for a size, or for a corner and a size."""
    corner, size = value[:-2], value[-2:]
    return all(0 <= side <= _SIDE_MAX for side in corner) and all(
        1 <= side <= _SIDE_MAX for side in size
    )


def _check_nesting(schedule: Schedule) -> Iterator[ScheduleFault]:
    """No key is both an entry and a dict of entries."""
    server = _server(schedule)
    names = [] if server is None else list(server.observation)
    for name in names:
        path = toml_position.format_path(("policy", "server", "observation", name))
        if not all(name.split(".")):
            yield schedule.fault(path, f"a part of the key is empty, got {name!r}; give it a name")
        inside = next((other for other in names if other.startswith(f"{name}.")), None)
        if inside is not None:
            yield schedule.fault(
                path, f"{name!r} is an entry, and {inside!r} is inside it; rename one of them"
            )


def _check_order(schedule: Schedule) -> Iterator[ScheduleFault]:
    server = _server(schedule)
    order = None if server is None else server.actions.order
    if order is not None and (any(column < 0 for column in order) or len({*order}) != len(order)):
        yield schedule.fault(
            "policy.server.actions.order",
            f"not a list of different columns from 0 on, got {show(order)}; give "
            f"{MEANING['order']}",
        )
