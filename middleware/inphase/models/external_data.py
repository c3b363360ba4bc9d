"""Numbers of an ONNX model that lie in a second file beside it, put into the model.

Exporters write such a file for large models, and PyTorch for all. A runtime would open a path that
the model names. Here one plain file is read, within bounds, so that what is checked is what runs.
"""

from dataclasses import dataclass, field
from pathlib import Path, PurePath

from inphase.models import model_file
from inphase.models.model_file import Refused

REMEDY = "export the model in one file (torch.onnx.export: external_data=False)"
_KEYS = {"location", "offset", "length", "checksum"}
_RAW_DATA, _INITIALIZER, _GRAPH = 9, 5, 7  # numbers of fields in onnx.proto


@dataclass
class Outside:
    """A tensor whose numbers lie in another file, and where it stands in the model."""

    where: str
    begin: int
    """of its field in the model's bytes, with the field's key"""
    start: int
    """of its message"""
    end: int
    named: list[tuple[int, int]] = field(default_factory=list)
    """begin and end of its fields that name the file"""
    entries: dict[str, str] = field(default_factory=dict)
    is_outside: bool = False
    """its data_location says so"""
    size: int = 0
    """bytes of its numbers, by its type and shape"""

    def place(self) -> tuple[str, int]:
        """The file's name and the offset in it. Raises Refused."""
        if not self.is_outside:
            raise Refused(f"{self.where}: names a file that data_location does not; {REMEDY}")
        if strange := set(self.entries) - _KEYS:
            raise Refused(f"{self.where}: has a key {sorted(strange)[0][:80]!r}; {REMEDY}")
        name = self.entries.get("location", "")
        plain = PurePath(name).name == name and name not in ("", ".", "..")
        if not plain or "\0" in name or "\\" in name:
            raise Refused(
                f"{self.where}: lies in {name[:80]!r}, which is no name of a file beside the "
                f"model; {REMEDY}"
            )
        offset, length = self._number("offset", 0), self._number("length", self.size)
        if length != self.size:
            raise Refused(
                f"{self.where}: has a length of {length}, where type and dims say {self.size}; "
                f"the file is damaged: copy or export it again"
            )
        return name, offset

    def own(self, data: bytes) -> bytes:
        """Its message without the fields that name the file."""
        pieces, at = [], self.start
        for begin, end in self.named:
            pieces.append(data[at:begin])
            at = end
        return b"".join([*pieces, data[at : self.end]])

    def _number(self, key: str, otherwise: int) -> int:
        text = self.entries.get(key)
        if text is None:
            return otherwise
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise Refused(f"{self.where}: {key} is {text[:80]!r}, and no number; {REMEDY}")
        return int(text)


def inline(
    path: Path, data: bytes, graph: tuple[int, int, int], outside: list[Outside], at_most: int
) -> bytes:
    """The model's bytes with all numbers in them.

    graph: where the graph's field begins, its message begins, and it ends. Raises Refused.
    """
    places = [one.place() for one in outside]
    names = {name for name, _ in places}
    if len(names) > 1:
        first, second = sorted(names)[:2]
        raise Refused(f"graph: lies in several files, {first!r} and {second!r}; {REMEDY}")
    if len(data) + sum(one.size for one in outside) > at_most:
        raise Refused(f"graph: is larger than {at_most} bytes; give a smaller network")
    held = _read(path, names.pop(), at_most)
    body, at = [], graph[1]
    for one, (name, offset) in zip(outside, places, strict=True):
        if offset + one.size > len(held):
            raise Refused(
                f"{one.where}: is bytes {offset} to {offset + one.size} of {name!r}, which has "
                f"{len(held)}; the file is cut off or of another model: copy it again"
            )
        tensor = one.own(data) + _field(_RAW_DATA, held[offset : offset + one.size])
        body += [data[at : one.begin], _field(_INITIALIZER, tensor)]
        at = one.end
    whole = b"".join([*body, data[at : graph[2]]])
    return data[: graph[0]] + _field(_GRAPH, whole) + data[graph[2] :]


def _read(path: Path, name: str, at_most: int) -> bytes:
    beside = path.parent / name
    if not beside.exists():
        raise Refused(
            f"graph: has its numbers in {name!r}, which is not beside the model; copy that file "
            f"there too, or {REMEDY}"
        )
    if beside.resolve().parent != path.parent.resolve():
        raise Refused(
            f"graph: has its numbers in {name!r}, a link to another folder; copy the file itself "
            f"there, or {REMEDY}"
        )
    held = model_file.read_bytes(beside, at_most)
    if len(held) > at_most:
        raise Refused(f"graph: {name!r} is larger than {at_most} bytes; give a smaller network")
    return held


def _field(number: int, message: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    return _varint(number << 3 | 2) + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
