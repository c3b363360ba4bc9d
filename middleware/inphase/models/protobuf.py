"""Protobuf messages, walked strictly: every field has a rule, and nothing of it is copied.

It is the part of the encoding that ONNX uses (https://protobuf.dev/programming-guides/encoding).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from inphase.models.model_file import Refused

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""How a field is encoded."""
_NAME_MAX = 1024  # bytes

Handler = Callable[["MessageField"], object]


@dataclass(frozen=True)
class MessageField:
    """One field of a message: a number, or where its bytes are."""

    wire: int
    value: int
    start: int
    end: int
    where: str
    begin: int
    """of its key"""


@dataclass(frozen=True)
class Rule:
    """The field that a message takes under a number; `unique`: at most once."""

    name: str
    wire: int
    take: Handler | None = None
    unique: bool = True


class Walk:
    """Through the bytes of one file, at most `fields_max` fields in all."""

    def __init__(self, data: bytes, fields_max: int) -> None:
        self._data = data
        self._fields_max = fields_max
        self._count = 0

    def message(self, start: int, end: int, where: str, rules: dict[int, Rule]) -> set[str]:
        """Walk a message; the names of the fields that it has."""
        seen: set[str] = set()
        counts: dict[str, int] = {}
        begin = start
        for number, wire, value, first, last in self._fields_of(start, end, where):
            rule = rules.get(number)
            if rule is None:
                raise Refused(
                    f"{where or 'file'}: has a field {number} that no model here needs; "
                    f"export the network to plain ONNX, in one file"
                )
            here = f"{where}.{rule.name}" if where else rule.name
            packed = wire == BYTES and not rule.unique and rule.wire != BYTES
            if wire != rule.wire and not packed:
                raise Refused(f"{here}: is not encoded as in ONNX; export the network again")
            if rule.unique and rule.name in seen:
                raise Refused(f"{here}: stands there twice; export the network again")
            seen.add(rule.name)
            if not rule.unique:
                index = counts[rule.name] = counts.get(rule.name, -1) + 1
                here = f"{here}[{index}]"
            if rule.take is not None:
                rule.take(MessageField(wire, value, first, last, here, begin))
            begin = last
        return seen

    def _fields_of(self, at: int, end: int, where: str) -> Iterator[tuple[int, int, int, int, int]]:
        """(number, wire type, value, start, end) of each field of a message."""
        while at < end:
            self._count += 1
            if self._count > self._fields_max:
                raise Refused(
                    f"{where}: is in more than {self._fields_max} pieces; simplify the network"
                )
            key, at = self.varint(at, end, where)
            number, wire = key >> 3, key & 7
            value = 0
            first = at
            if wire == VARINT:
                value, at = self.varint(at, end, where)
            elif wire == BYTES:
                size, first = self.varint(at, end, where)
                at = first + size
            elif wire in (FIXED32, FIXED64):
                at += 4 if wire == FIXED32 else 8
            else:
                number = 0
            if number == 0:
                raise Refused(
                    f"{where or 'file'}: byte {first} is not of an ONNX model; give a file that an "
                    f"exporter of ONNX wrote"
                )
            if at > end:
                raise Refused(
                    f"{where or 'file'}: ends at byte {end} in the middle of a field; the file is "
                    f"cut off or damaged: copy it again"
                )
            yield number, wire, value, first, at

    def varint(self, at: int, end: int, where: str) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at
        raise Refused(
            f"{where or 'file'}: no number at byte {at}; the file is cut off, damaged or not ONNX: "
            f"copy or export it again"
        )

    def text(self, item: MessageField, limit: int = _NAME_MAX) -> str:
        if item.end - item.start > limit:
            raise Refused(f"{item.where}: is a text of more than {limit} bytes; shorten it")
        try:
            return self._data[item.start : item.end].decode()
        except UnicodeDecodeError as error:
            raise Refused(f"{item.where}: is not UTF-8; export the network again") from error

    def numbers(self, item: MessageField, wire: int) -> int:
        """How many numbers a field of a repeated number holds, packed or one."""
        if item.wire != BYTES:
            return 1
        size = item.end - item.start
        if wire == VARINT:
            data = np.frombuffer(self._data, np.uint8, size, item.start)
            count = int(np.count_nonzero(data < 0x80))
            if size and data[-1] >= 0x80:
                raise Refused(f"{item.where}: ends in the middle of a number; copy the file again")
            return count
        width = 4 if wire == FIXED32 else 8
        if size % width:
            raise Refused(f"{item.where}: ends in the middle of a number; copy the file again")
        return size // width
