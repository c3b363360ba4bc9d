"""The channels of a robot's recording: what its messages have, for the writer and the reader alike.

`/frame` has everything of a frame but its samples; `/sensors/NAME` has each sample once, in the
first frame that names it. RECORDING.md is the format's page.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, timestamp_pb2
from numpy.typing import NDArray

from inphase.frames.layout import Layout
from inphase.frames.record_layout import ABSENT, ACT, HEADER, ROW, VALUE_BYTES, Fields
from inphase.recording.message_shape import Group, MessageShape, Number, leaves, tag_of, varint

FRAME_TOPIC = "/frame"
PACKAGE = "inphase"
"""of the messages"""
FRAME_TYPE = f"{PACKAGE}.Frame"
_NONE = dict.fromkeys(
    (
        "triggered_ns",
        "acquired_ns",
        "received_ns",
        "age_ns",
        "skew_ns",
        "acted_ns",
        "inferred_ns",
        "inference_ns",
    ),
    ABSENT,
) | dict.fromkeys(("cycle", "sequence", "acted_cycle", "answered_cycle", "reason_cycle"), -1)
"""the numbers of a record that may be absent, and what a record then has"""
_FIELD = descriptor_pb2.FieldDescriptorProto
_NS = 1_000_000_000


def sensor_topic(sensor: str) -> str:
    """The topic of its samples."""
    return f"/sensors/{sensor}"


# ---- /frame ------------------------------------------------------------------------------------


def frame_shape(layout: Layout) -> MessageShape:
    """Of a plain record that is the frame's number in the store, int64, and then its record."""
    record = layout.record
    header = _numbers(HEADER, leave=("cycle",))
    row = Group("", f"{PACKAGE}.Row", _numbers(ROW))
    fields: list[Number | Group] = [Number("number", np.dtype("<i8")), *header]
    fields.append(_each("sensors", f"{PACKAGE}.Sensors", [(row, name) for name in layout.sensors]))
    acts = [(_act(channels), name) for name, channels, _ in layout.actuators]
    fields.append(_each("actuators", f"{PACKAGE}.Actuators", acts))
    group = Group("", FRAME_TYPE, tuple(fields))

    places = {"number": 0} | {name: 8 + HEADER.offset(name) for name in HEADER.names}
    for index, name in enumerate(layout.sensors):
        for field in ROW.names:
            places[f"sensors.{name}.{field}"] = 8 + record.row(index) + ROW.offset(field)
    for index, (name, _, _) in enumerate(layout.actuators):
        for field in ACT.names:
            places[f"actuators.{name}.{field}"] = 8 + record.act(index) + ACT.offset(field)
        places[f"actuators.{name}.requested"] = 8 + record.requested(index)
        places[f"actuators.{name}.applied"] = 8 + record.applied(index)
    return MessageShape(group, _plain(group, places, 8 + record.size))


def _numbers(fields: Fields, leave: tuple[str, ...] = ()) -> tuple[Number, ...]:
    """The fields of a C struct; `leave`: those that are always there."""
    return tuple(
        Number(name, np.dtype(f"<{code}"), absent=None if name in leave else _NONE.get(name))
        for name, code in fields.codes.items()
    )


def _act(channels: int) -> Group:
    values = [
        Number(name, np.dtype(f"<f{VALUE_BYTES}"), (channels,)) for name in ("requested", "applied")
    ]
    return Group("", f"{PACKAGE}.Act", (*_numbers(ACT), *values))


def _each(name: str, type_name: str, parts: list[tuple[Group, str]]) -> Group:
    named = tuple(Group(part, group.type_name, group.fields) for group, part in parts)
    return Group(name, type_name, named)


def _plain(group: Group, places: dict[str, int], size: int) -> np.dtype[Any]:
    """The record of a message's numbers, at their places."""
    numbers = {".".join(path): number for path, number in leaves(group)}
    return np.dtype(
        {
            "names": list(numbers),
            "formats": [(one.dtype, one.shape) for one in numbers.values()],
            "offsets": [places[name] for name in numbers],
            "itemsize": size,
        }
    )


# ---- /sensors/NAME -----------------------------------------------------------------------------


class SampleForm:
    """The samples of a sensor as messages: cycle, sequence, acquired_ns and value."""

    _HEAD = Struct("<qqq")
    _HEAD_NAMES = ("cycle", "sequence", "acquired_ns")

    def __init__(self, sensor: str, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.wide = _widened(dtype)
        self.type_name = f"{PACKAGE}.sample.{sensor}"
        assert self.wide.fields is not None
        fields = {name: _split(place[0]) for name, place in self.wide.fields.items()}
        value = Group(
            "value",
            f"{self.type_name}_value",
            tuple(Number(name, kind, shape) for name, (kind, shape) in fields.items()),
        )
        known = (
            Number("cycle", np.dtype("<i8")),
            Number("sequence", np.dtype("<i8")),
            Number("acquired_ns", np.dtype("<i8"), absent=ABSENT),
        )
        group = Group("", self.type_name, (*known, value))
        head = self._HEAD.size
        places = {name: 8 * index for index, name in enumerate(self._HEAD_NAMES)}
        places |= {f"value.{name}": head + int(at[1]) for name, at in self.wide.fields.items()}
        self.shape = MessageShape(group, _plain(group, places, head + self.wide.itemsize))
        self.descriptor = descriptor_set(group)
        self.largest = self.shape.largest
        """bytes of a message at most"""

    def encode(
        self, cycle: int, sequence: int, acquired_ns: int, value: NDArray[Any]
    ) -> list[bytes | memoryview]:
        """A message, in parts."""
        if self.wide != self.dtype:
            value = value.astype(self.wide)
        head = self._HEAD.pack(cycle, sequence, acquired_ns)
        return [self.shape.encode(head + value.tobytes())]

    def decode(self, message: bytes) -> NDArray[Any]:
        """The sample of a message, shape (). Raises ValueError."""
        plain = self.shape.decode(message)
        value = np.frombuffer(plain, self.wide, 1, self._HEAD.size)[0]
        return np.asarray(value).astype(self.dtype)


def _split(dtype: np.dtype[Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    return (dtype.subdtype[0], dtype.shape) if dtype.subdtype is not None else (dtype, ())


def _widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same fields, with narrow signed numbers as int32: their signs would be lost."""
    assert dtype.fields is not None
    fields = {name: _split(place[0]) for name, place in dtype.fields.items()}
    if not any(kind.kind == "i" and kind.itemsize < 4 for kind, _ in fields.values()):
        return dtype
    return np.dtype(
        [
            (name, "<i4" if kind.kind == "i" and kind.itemsize < 4 else kind, shape)
            for name, (kind, shape) in fields.items()
        ]
    )


# ---- images ------------------------------------------------------------------------------------

_ENCODINGS = {("|u1", 1): "mono8", ("<u2", 1): "mono16", ("|u1", 3): "rgb8", ("|u1", 4): "rgba8"}
"""by dtype and colours"""
_STAMP_MAX = 20  # bytes of a Timestamp as a field


class ImageForm:
    """The samples of a sensor whose only field is an image, as foxglove.RawImage.

    `timestamp` is the acquisition on the wall clock, or absent. The cycle and the sequence are in
    `/frame`; the low 32 bits of the sequence are the message's own in MCAP.
    """

    type_name = "foxglove.RawImage"

    def __init__(self, sensor: str, dtype: np.dtype[Any], wall_offset_ns: int) -> None:
        self.dtype = dtype
        self._offset_ns = wall_offset_ns
        encoding = image_encoding(dtype)
        assert encoding is not None and dtype.fields is not None
        (self._field,) = dtype.names or ()
        shape = dtype.fields[self._field][0].shape
        self._size = dtype.fields[self._field][0].itemsize
        step = self._size // shape[0]
        # the data is last, whatever its number: it is not copied
        self._head = b"".join(
            (
                _text(7, sensor),
                _fixed32(2, shape[1]),
                _fixed32(3, shape[0]),
                _text(4, encoding),
                _fixed32(5, step),
                tag_of(6, Number("data", np.dtype("u1"), (1,))),
                varint(self._size),
            )
        )
        self.descriptor = _raw_image_set()
        self.largest = _STAMP_MAX + len(self._head) + self._size
        """bytes of a message at most"""

    def encode(
        self, cycle: int, sequence: int, acquired_ns: int, value: NDArray[Any]
    ) -> list[bytes | memoryview]:
        """A message, in parts, of which the last is the sample itself."""
        stamp = b""
        if acquired_ns != ABSENT:
            seconds, nanos = divmod(acquired_ns + self._offset_ns, _NS)
            packed = timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos).SerializeToString()
            stamp = tag_of(1, Group("", "", ())) + varint(len(packed)) + packed
        pixels = value[self._field].reshape(-1).view(np.uint8)
        return [stamp + self._head, pixels.data]

    def decode(self, message: bytes) -> NDArray[Any]:
        """The sample of a message, shape (). Raises ValueError."""
        if len(message) < self._size + len(self._head):
            raise ValueError(f"{len(message)} bytes of an image")
        value = np.zeros((), self.dtype)
        octets = np.frombuffer(message, np.uint8, offset=len(message) - self._size)
        value[self._field].reshape(-1).view(np.uint8)[:] = octets
        return value


def image_encoding(dtype: np.dtype[Any]) -> str | None:
    """The name that viewers have for the pixels of a sample that is an image; None: it is none."""
    if dtype.fields is None or len(dtype.fields) != 1:
        return None
    kind, shape = _split(next(iter(dtype.fields.values()))[0])
    if len(shape) not in (2, 3) or min(shape[:2]) < 2:
        return None
    return _ENCODINGS.get((kind.str, shape[2] if len(shape) == 3 else 1))


def _fixed32(number: int, value: int) -> bytes:
    return tag_of(number, Number("", np.dtype("<u4"))) + value.to_bytes(4, "little")


def _text(number: int, text: str) -> bytes:
    packed = text.encode()
    return tag_of(number, Group("", "", ())) + varint(len(packed)) + packed


def _raw_image_set() -> bytes:
    """The descriptor of Foxglove's RawImage, complete."""
    stamp = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(stamp)
    file = descriptor_pb2.FileDescriptorProto(
        name="foxglove/RawImage.proto",
        package="foxglove",
        syntax="proto3",
        dependency=[stamp.name],
    )
    message = file.message_type.add(name="RawImage")
    message.field.add(
        name="timestamp",
        number=1,
        type=_FIELD.TYPE_MESSAGE,
        label=_FIELD.LABEL_OPTIONAL,
        type_name=".google.protobuf.Timestamp",
    )
    fields = (
        ("frame_id", 7, _FIELD.TYPE_STRING),
        ("width", 2, _FIELD.TYPE_FIXED32),
        ("height", 3, _FIELD.TYPE_FIXED32),
        ("encoding", 4, _FIELD.TYPE_STRING),
        ("step", 5, _FIELD.TYPE_FIXED32),
        ("data", 6, _FIELD.TYPE_BYTES),
    )
    for name, number, kind in fields:
        message.field.add(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)
    return bytes(descriptor_pb2.FileDescriptorSet(file=[stamp, file]).SerializeToString())


# ---- descriptors -------------------------------------------------------------------------------


def descriptor_set(group: Group) -> bytes:
    """The description of a message in protobuf, complete: a FileDescriptorSet."""
    package, _, name = group.type_name.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}/{name}.proto", package=package, syntax="proto3"
    )
    done: set[str] = set()

    def add(one: Group) -> None:
        if one.type_name in done:
            return
        done.add(one.type_name)
        message = file.message_type.add(name=one.type_name.rpartition(".")[2])
        for number, field in enumerate(one.fields, 1):
            _describe(message, number, field)
            if isinstance(field, Group):
                add(field)

    add(group)
    return bytes(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString())


def _describe(message: Any, number: int, field: Number | Group) -> None:
    """Add a field to a message's descriptor."""
    described = message.field.add(name=field.name, number=number, label=_FIELD.LABEL_OPTIONAL)
    if isinstance(field, Group):
        described.type = _FIELD.TYPE_MESSAGE
        described.type_name = f".{field.type_name}"
        return
    described.type = _FIELD.Type.Value(field.kind.proto)
    if field.shape and field.kind.width > 1:
        described.label = _FIELD.LABEL_REPEATED
    elif field.absent is not None:
        described.proto3_optional = True
        described.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{field.name}")


@dataclass(frozen=True)
class Forms:
    """All channels of a robot: `/frame`, and one per sensor in the schedule's order."""

    layout: Layout
    frame: MessageShape
    samples: tuple[SampleForm | ImageForm, ...]

    @classmethod
    def of(cls, layout: Layout, wall_offset_ns: int) -> "Forms":
        """Of a robot whose wall clock is that much ahead of its monotonic one."""
        samples = [
            ImageForm(name, dtype, wall_offset_ns)
            if image_encoding(dtype)
            else SampleForm(name, dtype)
            for name, dtype in zip(layout.sensors, layout.dtypes, strict=True)
        ]
        return cls(layout, frame_shape(layout), tuple(samples))

    @property
    def topics(self) -> tuple[str, ...]:
        """In the order of the channels."""
        return (FRAME_TOPIC, *map(sensor_topic, self.layout.sensors))

    @property
    def schemas(self) -> tuple[tuple[str, bytes], ...]:
        """Of each channel the name of its messages and their description, a FileDescriptorSet."""
        frame = (FRAME_TYPE, descriptor_set(self.frame.group))
        return (frame, *((form.type_name, form.descriptor) for form in self.samples))
