"""A schedule's tables of a policy that is a network or a server: what goes in and comes out."""

from typing import Annotated, Literal

from msgspec import Meta

from inphase.schedule.table import Table


class Normalise(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a model's tensor: (x - mean) / std goes in, y * std + mean comes out."""

    mean: float | list[float] | None = None
    """Mean, for all numbers of the tensor or each. Left out: 0."""
    std: float | list[float] | None = None
    """Standard deviation, likewise. Left out: 1."""


class ImageInput(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a model's tensor that is an image: (pixel * scale - mean) / std goes in."""

    layout: Literal["NHWC", "NCHW"] = "NHWC"
    """Order of its sides: batch, height, width, channels, or the channels before height and width.
    """
    scale: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    """Factor of a pixel, such as 0.00392156862745098 for 0 to 1. `normalise` has mean and std, one
    number or one per channel."""


class Classifier(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model that says when the task is done. Its inputs are bound as those of a policy are."""

    model: Annotated[str, Meta(min_length=1)]
    """An ONNX file beside the schedule."""
    inputs: dict[str, Annotated[list[str], Meta(min_length=1, max_length=64)]]
    """By input of the model: fields, as `sensor.field`, one after the other."""
    output: Annotated[str, Meta(min_length=1)]
    """Name of its output, which is one number: the score."""
    threshold: float
    """The task is done from this score on."""
    frames: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Frames that it looks at, one after the other, in which the score has to be so high."""
    normalise: dict[str, Normalise] = {}
    """By tensor of the model: its mean and standard deviation."""
    images: dict[str, ImageInput] = {}
    """By input of the model that is an image: its layout and scale."""


class ObservationEntry(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One entry of an observation. Exactly one of `fields`, `image` and `text` is set."""

    fields: Annotated[list[str], Meta(min_length=1, max_length=64)] | None = None
    """Fields of numbers, as `sensor.field`, one after the other in one array."""
    image: str | None = None
    """A field of uint8, as `sensor.field`."""
    text: Annotated[str, Meta(max_length=4096)] | None = None
    """A text, such as the instruction."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the numbers."""
    scale: float | list[float] = 1.0
    """Factor of the numbers, one for all or one each: value * scale + offset goes out."""
    offset: float | list[float] = 0.0
    """Added to them, likewise."""
    crop: tuple[int, int, int, int] | None = None
    """Part of the image, [top, left, height, width] in pixels. Left out: all of it."""
    size: tuple[int, int] | None = None
    """[height, width] that the image then gets: in proportion, with black around it. Left out: as
    it is."""
    layout: Literal["HWC", "CHW"] = "HWC"
    """Order of the image's sides: height, width, channels, or the channels first."""

    @property
    def kinds(self) -> list[str]:
        """Those of `fields`, `image` and `text` that are set."""
        return [kind for kind in ("fields", "image", "text") if getattr(self, kind) is not None]


class ServerActions(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The way from a server's answer, an array with a row per command, to commands."""

    key: Annotated[str, Meta(min_length=1, max_length=256)] = "actions"
    """Key of that array in the answer."""
    first: Annotated[int, Meta(ge=0, le=4095)] = 0
    """Row that is the first command; `chunk` rows from there on are taken."""
    order: Annotated[list[int], Meta(min_length=1, max_length=256)] | None = None
    """Column of each channel, from 0 on, in the order of the actuators. Left out: a column per
    channel, in that order."""
    scale: float | list[float] = 1.0
    """Factor of the values, one for all or one per channel: value * scale + offset is the command,
    in SI."""
    offset: float | list[float] = 0.0
    """Added to them, likewise."""


class PolicyServer(Table, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy server that speaks openpi's WebSocket protocol. It needs `allow = ["network"]`."""

    url: str
    """Address of the server, `ws://HOST:PORT` or `wss://HOST:PORT`."""
    observation: Annotated[dict[str, ObservationEntry], Meta(min_length=1, max_length=64)]
    """The observation, by key. A dot in a key makes a dict in the dict, as in "images.wrist"."""
    actions: ServerActions = ServerActions()
    """How its answer becomes commands."""
    answer_ms: Annotated[float, Meta(gt=0, le=600_000)] = 10_000.0
    """Longest time to an answer. A server that needs more is left, and connected to anew."""
    first_answer_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 120_000.0
    """Longest time to the first answer of a connection, for which a server may have to compile."""
