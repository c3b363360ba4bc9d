"""Images of a camera as a network takes them: bytes as they lie, or numbers, in either layout.

An image's field is uint8 of (height, width) or (height, width, channels). `[policy] images` says
the layout of a tensor and the scale of its pixels.
"""

import numpy as np

from inphase.models import normalisation, tensor
from inphase.models.onnx_file import DOUBLE, FLOAT, UINT8, ModelPort
from inphase.models.tensor import File, Pixels, Tensor, Wanted, refuse
from inphase.schedule import Schedule, toml_position
from inphase.schedule.network_tables import ImageInput

_TO_ONE = 1 / 255  # scale that makes pixels 0 to 1


def bind(schedule: Schedule, model: File, wanted: Wanted, port: ModelPort | None) -> Tensor:
    """The tensor of an image; port: of a model, None of a module. Raises ScheduleError."""
    assert schedule.policy is not None
    given = schedule.policy.images.get(wanted.name)
    layout = ImageInput() if given is None else given
    own = _shapes(wanted, layout.layout)
    if port is None:
        kind, shape = (UINT8 if given is None else FLOAT), (1, *own[0])
    else:
        kind = _type(schedule, model, wanted, port)
        shape = _fitting(schedule, model, wanted, port, layout)
    pixels = _pixels(schedule, model, wanted, layout, kind)
    parts = tuple(wanted.parts)
    return Tensor(wanted.name, kind, shape, parts, pixels=pixels)


def refuse_key(schedule: Schedule, wanted: Wanted) -> None:
    """Raise ScheduleError where `images` names a tensor that is no image."""
    assert schedule.policy is not None
    if wanted.what == "inputs" and wanted.name in schedule.policy.images:
        raise schedule.error(
            toml_position.format_path(("policy", "images", wanted.name)),
            f"{wanted.name!r} takes {', '.join(part.name for part in wanted.parts)}, which is no "
            f"image of uint8; remove it from images",
        )


def _shapes(wanted: Wanted, layout: str) -> list[tuple[int, ...]]:
    """The shapes that a tensor of one image may have, without its batch."""
    assert wanted.image is not None
    height, width, *channels = wanted.image
    if layout == "NCHW":
        shapes = [(*(channels or [1]), height, width)]
    else:
        shapes = [(height, width, *channels)]
    if not channels:
        shapes += [(height, width), (height, width, 1)] if layout == "NHWC" else [(height, width)]
    return shapes if wanted.rows == 1 else [(wanted.rows, *shape) for shape in shapes]


def _type(schedule: Schedule, model: File, wanted: Wanted, port: ModelPort) -> int:
    assert schedule.policy is not None
    if port.type not in (FLOAT, DOUBLE, UINT8):
        refuse(
            schedule, model, f"input {port.name!r} is of {tensor.type_name(port.type)}",
            "export it as float32 or uint8",
        )  # fmt: skip
    if port.type != UINT8 and wanted.name not in schedule.policy.images:
        refuse(
            schedule, model,
            f"input {port.name!r} is an image of {tensor.type_name(port.type)}, and its field is "
            f"of uint8",
            f"say how its pixels go in, in [policy]: {_advice(wanted, port, _TO_ONE)}",
        )  # fmt: skip
    return port.type


def _fitting(
    schedule: Schedule, model: File, wanted: Wanted, port: ModelPort, layout: ImageInput
) -> tuple[int, ...]:
    """The shape of a tensor, in a batch of one."""
    fits = [_fitting_one(port, own) for own in _shapes(wanted, layout.layout)]
    shape = next((shape for shape in fits if shape is not None), None)
    if shape is not None:
        return shape
    remedy = f"say its layout in [policy]: {_advice(wanted, port, layout.scale)}"
    if _layout_of(wanted, port) is None:
        likely = _likely_layout(wanted, port) or layout.layout
        sides = [1, *_shapes(wanted, likely)[0]]
        remedy = (
            f"give the camera that size, or export the network for {sides}, or for any size "
            f"(dynamic height and width)"
        )
    return refuse(
        schedule, model,
        f"input {port.name!r} has the shape {list(port.shape)}, and {wanted.parts[0].name} is "
        f"{list(wanted.image or ())}",
        remedy,
    )  # fmt: skip


def _fitting_one(port: ModelPort, own: tuple[int, ...]) -> tuple[int, ...] | None:
    """`own` in a batch of one, where a port takes that: its open sides take any size."""
    return tensor.fitting(tensor.filled(port, own), own)


def _likely_layout(wanted: Wanted, port: ModelPort) -> str | None:
    """The layout in which a port has as many channels as the image; None: neither, or both."""
    assert wanted.image is not None
    channels = wanted.image[2] if len(wanted.image) == 3 else 1
    sides = {"NCHW": port.shape[-3:-2], "NHWC": port.shape[-1:]}
    found = [layout for layout, side in sides.items() if side == (channels,)]
    return found[0] if len(found) == 1 else None


def _layout_of(wanted: Wanted, port: ModelPort) -> str | None:
    """The layout in which a port takes the image; None: its sides are others."""
    for layout in ("NCHW", "NHWC"):
        if any(_fitting_one(port, own) is not None for own in _shapes(wanted, layout)):
            return layout
    return None


def _advice(wanted: Wanted, port: ModelPort, scale: float) -> str:
    """The key that binds an image to a port."""
    layout = _layout_of(wanted, port) or _likely_layout(wanted, port) or "NCHW"
    scaled = f", scale = {scale!r}" if port.type != UINT8 else ""
    return f'images = {{ {wanted.name} = {{ layout = "{layout}"{scaled} }} }}'


def _pixels(
    schedule: Schedule, model: File, wanted: Wanted, layout: ImageInput, kind: int
) -> Pixels | None:
    """How its values go in; None: as they lie."""
    assert wanted.image is not None
    channels = wanted.image[2] if len(wanted.image) == 3 else 1
    is_planar = layout.layout == "NCHW"
    normalised = normalisation.of_tensor(schedule, model, wanted.name, channels)
    if kind == UINT8:
        if layout.scale != 1:
            raise schedule.error(
                f"policy.images.{wanted.name}.scale",
                f"{layout.scale!r} does not go into uint8; remove scale, or export the input as "
                f"float32",
            )
        if normalised is not None:
            raise schedule.error(
                normalisation.place(schedule, wanted.name),
                f"{wanted.name!r} is an image of uint8, which goes in as it is; remove its "
                f"normalisation, or export the input as float32",
            )
        return Pixels(channels, is_planar) if is_planar else None
    mean, std = (np.zeros(1), np.ones(1)) if normalised is None else normalised
    values = np.arange(256.0) * layout.scale
    numbers = (values - mean[:, np.newaxis]) / std[:, np.newaxis]
    return Pixels(channels, is_planar, np.broadcast_to(numbers, (channels, 256)))
