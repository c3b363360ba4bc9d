"""Messages in protobuf whose numbers have fixed places: one table of fields writes and reads them.

Every number has a fixed width on the wire, and every array its length. So a message is a *plain*
record, a NumPy record of all its numbers, with the tags of protobuf in between: the bytes of one
are those of the other in another order. A plain number that is absent has a value that no present
one has, and is left out of the message with its tag. The order then is another one; it is worked
out once for each set of absent numbers, of which a run has few.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Path = tuple[str, ...]
_FIXED64, _BYTES, _FIXED32 = 1, 2, 5


class Kind(NamedTuple):
    """The form of a number in protobuf."""

    proto: str
    """its type, as a descriptor names it"""
    wire_type: int
    width: int
    """in bytes"""


_KINDS = {
    "f8": Kind("TYPE_DOUBLE", _FIXED64, 8),
    "f4": Kind("TYPE_FLOAT", _FIXED32, 4),
    "i8": Kind("TYPE_SFIXED64", _FIXED64, 8),
    "u8": Kind("TYPE_FIXED64", _FIXED64, 8),
    "i4": Kind("TYPE_SFIXED32", _FIXED32, 4),
    "u4": Kind("TYPE_FIXED32", _FIXED32, 4),
    # protobuf has no narrower ones of fixed width; zeros are put above them
    "u2": Kind("TYPE_FIXED32", _FIXED32, 4),
    "u1": Kind("TYPE_FIXED32", _FIXED32, 4),
    "b1": Kind("TYPE_FIXED32", _FIXED32, 4),
}
_OCTETS = Kind("TYPE_BYTES", _BYTES, 1)


@dataclass(frozen=True)
class Number:
    """A field of numbers. absent: the plain value, of 8 bytes, that stands for none; None: there
    is always one."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    absent: int | None = None

    @property
    def kind(self) -> Kind:
        """On the wire; an array of bytes is one value."""
        if self.shape and self.dtype == np.uint8:
            return _OCTETS
        return _KINDS[f"{self.dtype.kind}{self.dtype.itemsize}"]

    @property
    def count(self) -> int:
        """Of its numbers."""
        return int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True)
class Group:
    """A message, or a field that is one. `type_name`: of the message; fields count from 1."""

    name: str
    type_name: str
    fields: "tuple[Number | Group, ...]"


def leaves(group: Group, above: Path = ()) -> Iterator[tuple[Path, Number]]:
    """The numbers of a message and of those in it, in order, with the names that lead to them."""
    for field in group.fields:
        if isinstance(field, Group):
            yield from leaves(field, (*above, field.name))
        else:
            yield (*above, field.name), field


def varint(number: int) -> bytes:
    """A count as protobuf has it."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


class _Piece(NamedTuple):
    """A stretch of a message: tags and zeros as they are, or a number by its place in `plain`."""

    tags: bytes = b""
    at: int = 0
    """in the plain record"""
    size: int = 0


class Variant(NamedTuple):
    """The messages in which the same numbers are absent."""

    order: NDArray[np.intp]
    """of a message's bytes among `tags` and the plain record behind them"""
    back: NDArray[np.intp]
    """of a plain record's bytes among a message and the absent numbers behind it"""
    tags: bytes
    places: NDArray[np.intp]
    """of the tags in a message"""


class MessageShape:
    """Writes plain records as messages, and reads messages as plain records.

    plain: of the numbers in `leaves`, whose names are joined by dots.
    """

    def __init__(self, group: Group, plain: np.dtype[Any]) -> None:
        self.group = group
        self.plain = plain
        assert plain.fields is not None
        self._at = {name: int(place[1]) for name, place in plain.fields.items()}
        numbers = {".".join(path): number for path, number in leaves(group)}
        optional = {name: one.absent for name, one in numbers.items() if one.absent is not None}
        self._optional = list(optional)
        self._words = np.array([self._at[name] // 8 for name in optional], np.intp)
        self._nones = np.array(list(optional.values()), "<i8")
        self._aligned = plain.itemsize // 8 * 8
        # what a plain record has where no number of a message belongs
        nothing = np.zeros((), plain)
        for name, none in optional.items():
            nothing[name] = none
        self._nothing = nothing.tobytes()
        self._variants: dict[bytes, Variant] = {}
        self._by_size: dict[int, list[Variant]] = {}

    @property
    def largest(self) -> int:
        """Bytes of a message in which no number is absent."""
        return len(self._variant(bytes(len(self._optional))).order)

    def encode(self, plain: bytes) -> bytes:
        """The message of a plain record."""
        words = np.frombuffer(plain, "<i8", self._aligned // 8)
        variant = self._variant((words.take(self._words) == self._nones).tobytes())
        return np.frombuffer(variant.tags + plain, np.uint8).take(variant.order).tobytes()

    def decode(self, message: bytes) -> bytes:
        """The plain record of a message. Raises ValueError for one of another shape."""
        variant = self.variant_of(message)
        return np.frombuffer(message + self._nothing, np.uint8).take(variant.back).tobytes()

    def decode_rows(self, messages: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The plain records of messages of one size, both with a row each. Raises ValueError for a
        message of another shape."""
        found = np.empty((len(messages), self.plain.itemsize), np.uint8)
        left = np.arange(len(messages))
        while len(left):
            variant = self.variant_of(messages[left[0]].tobytes())
            tags = np.frombuffer(variant.tags, np.uint8)
            fits = (messages[left][:, variant.places] == tags).all(axis=1)
            rows = messages[left[fits]]
            nothing = np.broadcast_to(
                np.frombuffer(self._nothing, np.uint8), (len(rows), len(self._nothing))
            )
            found[left[fits]] = np.hstack([rows, nothing]).take(variant.back, axis=1)
            left = left[~fits]
        return found

    def variant_of(self, message: bytes) -> Variant:
        """The variant of a message. Raises ValueError for one of another shape."""
        found = np.frombuffer(message, np.uint8)
        for variant in self._by_size.get(len(message), []):
            if found.take(variant.places).tobytes() == variant.tags:
                return variant
        absent = _absent_in(self.group, message)
        variant = self._variant(bytes(name in absent for name in self._optional))
        fits = len(found) == len(variant.order)
        if not fits or found.take(variant.places).tobytes() != variant.tags:
            raise ValueError(f"a message of {self.group.type_name} has other lengths")
        return variant

    def _variant(self, key: bytes) -> Variant:
        """key: of each optional number whether it is absent."""
        known = self._variants.get(key)
        if known is None:
            absent = {name for name, gone in zip(self._optional, key, strict=True) if gone}
            known = self._variants[key] = self._make(list(self._pieces(self.group, (), absent)))
            self._by_size.setdefault(len(known.order), []).append(known)
        return known

    def _pieces(self, group: Group, above: Path, absent: set[str]) -> Iterator[_Piece]:
        """The stretches of a message, in order."""
        for number, field in enumerate(group.fields, 1):
            name = ".".join((*above, field.name))
            if name in absent:
                continue
            yield _Piece(tag_of(number, field))
            if isinstance(field, Group):
                inner = list(self._pieces(field, (*above, field.name), absent))
                yield _Piece(varint(sum(len(piece.tags) + piece.size for piece in inner)))
                yield from inner
                continue
            wide, narrow, at = field.kind.width, field.dtype.itemsize, self._at[name]
            if field.shape:
                yield _Piece(varint(field.count * wide))
            if wide == narrow:
                yield _Piece(at=at, size=field.count * wide)
                continue
            for index in range(field.count):
                yield _Piece(at=at + index * narrow, size=narrow)
                yield _Piece(bytes(wide - narrow))

    def _make(self, pieces: list[_Piece]) -> Variant:
        tags = b"".join(piece.tags for piece in pieces)
        order: list[NDArray[np.intp]] = []
        used = 0
        for piece in pieces:
            first = len(tags) + piece.at if piece.size else used
            order.append(np.arange(first, first + (piece.size or len(piece.tags))))
            used += len(piece.tags)
        places = np.concatenate(order)
        is_tag = places < len(tags)
        back = np.arange(len(places), len(places) + self.plain.itemsize)
        back[places[~is_tag] - len(tags)] = np.flatnonzero(~is_tag)
        return Variant(places, back, tags, np.flatnonzero(is_tag))


def tag_of(number: int, field: Number | Group) -> bytes:
    """The bytes before a field's value."""
    is_long = isinstance(field, Group) or bool(field.shape)
    return varint(number << 3 | (_BYTES if is_long else field.kind.wire_type))  # type: ignore[union-attr]


def _absent_in(group: Group, message: bytes, above: Path = ()) -> set[str]:
    """The numbers that a message does not have. Raises ValueError for one of another shape."""
    absent: set[str] = set()
    at = 0
    for number, field in enumerate(group.fields, 1):
        tag = tag_of(number, field)
        if not message.startswith(tag, at):
            if isinstance(field, Group) or field.absent is None:
                raise ValueError(f"no {'.'.join((*above, field.name))} at byte {at}")
            absent.add(".".join((*above, field.name)))
            continue
        at += len(tag)
        if isinstance(field, Number) and not field.shape:
            at += field.kind.width
            continue
        size, at = read_varint(message, at)
        if isinstance(field, Group):
            absent |= _absent_in(field, message[at : at + size], (*above, field.name))
        elif size != field.count * field.kind.width:
            raise ValueError(f"{size} bytes of {'.'.join((*above, field.name))}")
        at += size
    if at != len(message):
        raise ValueError(f"{len(message)} bytes of {group.type_name}, expected {at}")
    return absent


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A count, and where it ends. Raises ValueError."""
    number = 0
    for shift in range(0, 35, 7):
        if at >= len(message):
            break
        number |= (message[at] & 0x7F) << shift
        at += 1
        if not message[at - 1] & 0x80:
            return number, at
    raise ValueError(f"no count at byte {at}")
