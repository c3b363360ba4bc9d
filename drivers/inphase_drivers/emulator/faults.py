"""Faults of an emulated device, switched on and off from the control channel.

A fault spoils the next `count` replies (-1: every reply until it is cleared). Requests that call
for no reply are not counted. These are faults of the device, none of the product.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .instruction import Block


@dataclass
class Fault:
    """One fault that is on. `arg` is bytes, microseconds or a value, as the name says."""

    name: str
    count: int
    arg: int
    servo: int  # index of the servo that is meant, where one is


class Faults:
    """The faults of one device that are on, by name."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._on: dict[str, Fault] = {}

    def __bool__(self) -> bool:
        return bool(self._on)

    def names(self) -> set[str]:
        """The faults that are on."""
        return set(self._on)

    def turn_on(self, request: dict[str, object]) -> None:
        """Turn on what a control request names. Raises ValueError for what is not known."""
        name = request.get("fault")
        if not isinstance(name, str) or name not in self._names:
            raise ValueError(f"fault must be one of {', '.join(sorted(self._names))}, got {name!r}")
        count, arg, servo = (
            _integer(request, key, default)
            for key, default in (("count", 1), ("arg", 0), ("servo", 0))
        )
        self._on[name] = Fault(name, count, arg, servo)

    def clear(self) -> None:
        """Turn every fault off."""
        self._on.clear()

    def take(self) -> list[Fault]:
        """The faults of the reply that is due now; each has one reply less left after it."""
        taken = list(self._on.values())
        for fault in taken:
            fault.count -= fault.count > 0
            if fault.count == 0:
                del self._on[fault.name]
        return taken


def _integer(request: dict[str, object], key: str, default: int) -> int:
    value = request.get(key, default)
    if not isinstance(value, int):
        raise ValueError(f"{key} must be an integer, got {value!r}")
    return value


def _wrong_id(blocks: list[Block], fault: Fault) -> list[Block]:
    blocks[fault.servo] = blocks[fault.servo]._replace(id=fault.arg or 100)
    return blocks


def _error(blocks: list[Block], fault: Fault) -> list[Block]:
    blocks[fault.servo] = blocks[fault.servo]._replace(error=fault.arg)
    return blocks


def _garble(data: bytearray, fault: Fault) -> bytearray:
    if data:
        data[(fault.arg or len(data) // 2) % len(data)] ^= 0x5A
    return data


def _short(data: bytearray, fault: Fault) -> bytearray:
    del data[fault.arg :]
    return data


def _noise(data: bytearray, fault: Fault) -> bytearray:
    return bytearray((37 * index + 11) & 0xFF for index in range(fault.arg or 1)) + data


# what happens to the servos' blocks before they become packets, and to a packet's bytes
BLOCK_FAULTS: dict[str, Callable[[list[Block], Fault], list[Block]]] = {
    "wrong_id": _wrong_id,
    "error": _error,
}
BYTE_FAULTS: dict[str, Callable[[bytearray, Fault], bytearray]] = {
    "garble": _garble,
    "short": _short,
    "noise": _noise,
}
