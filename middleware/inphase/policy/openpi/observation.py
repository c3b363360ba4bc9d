"""Frames to observations, and answers to commands, as a schedule's [policy.server] says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import install_extras
from inphase.frames.frame import Frame
from inphase.models.server_binding import SentImage, SentNumbers, ServerBinding
from inphase.policy.openpi import array_format
from inphase.policy.openpi.array_format import Malformed
from inphase.schedule import Schedule

_ROWS_MAX = 1 << 16


def check_packages(schedule: Schedule, binding: ServerBinding) -> None:
    """See that what resizes images is installed. Raises ScheduleError."""
    for keys, entry in binding.entries:
        if isinstance(entry, SentImage) and entry.size != entry.crop[2:]:
            try:
                import PIL.Image  # noqa: F401 - the sandbox would not make a late import quicker
            except ImportError as error:
                raise schedule.error(
                    "policy.server.observation",
                    f"{'.'.join(keys)} is resized, and the package pillow is not installed; "
                    f"{install_extras(['openpi'])}",
                ) from error


def of_frame(binding: ServerBinding, frame: Frame) -> bytes | None:
    """The message of a frame's observation; None: a sample is not accepted, or not whole."""
    samples = {name: frame[name] for name in binding.accepts}
    if any(sample.status not in binding.accepts[name] for name, sample in samples.items()):
        return None
    content: dict[str, Any] = {}
    for (*outer, last), entry in binding.entries:
        inside = content
        for key in outer:
            inside = inside.setdefault(key, {})
        inside[last] = _value(entry, frame)
    packed = array_format.pack(content)
    return packed if all(sample.intact for sample in samples.values()) else None


def _value(entry: SentNumbers | SentImage | str, frame: Frame) -> Any:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, SentImage):
        return _image(entry, frame[entry.place[0]][entry.place[1]])
    parts = [np.ravel(frame[sensor][field]) for sensor, field in entry.places]
    return (np.concatenate(parts) * entry.scale + entry.offset).astype(entry.dtype)


def _image(entry: SentImage, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    top, left, height, width = entry.crop
    image = pixels[top : top + height, left : left + width]
    if entry.size != (height, width):
        image = _resized(image, *entry.size)
    if entry.is_planar:
        image = image[np.newaxis] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    return image


def _resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """In proportion, in the middle of a black image: the bytes of openpi's `resize_with_pad`."""
    from PIL import Image

    is_single = image.ndim == 3 and image.shape[2] == 1
    source = Image.fromarray(np.ascontiguousarray(image[..., 0] if is_single else image))
    ratio = max(source.width / width, source.height / height)
    inner = (max(1, int(source.width / ratio)), max(1, int(source.height / ratio)))
    padded = Image.new(source.mode, (width, height), 0)
    padded.paste(
        source.resize(inner, Image.Resampling.BILINEAR),
        (max(0, (width - inner[0]) // 2), max(0, (height - inner[1]) // 2)),
    )
    found = np.asarray(padded)
    return found[..., np.newaxis] if is_single else found


def to_command(binding: ServerBinding, message: bytes) -> NDArray[np.float64]:
    """The command of an answer: (channels,), or (chunk, channels) in SI. Raises Malformed."""
    content = array_format.unpack(message)
    if binding.key not in content:
        keys = ", ".join(map(repr, list(content)[:8]))
        raise Malformed(f"an answer without the key {binding.key!r}; it has: {keys or 'none'}")
    values = array_format.array(content[binding.key], binding.key)
    rows = values[np.newaxis] if values.ndim == 1 and binding.rows == 1 else values
    least = max(binding.columns) + 1
    if (
        rows.ndim != 2
        or not binding.first + binding.rows <= len(rows) <= _ROWS_MAX
        or (rows.shape[1] != binding.width if binding.width else rows.shape[1] < least)
    ):
        wanted = f"{binding.width}" if binding.width else f"{least} or more"
        raise Malformed(
            f"{binding.key!r} of shape {values.shape}; wanted are {binding.first + binding.rows} "
            f"rows or more ([policy] chunk, and actions.first) of {wanted} columns, one per "
            f"channel (see actions.order)"
        )
    taken = rows[binding.first : binding.first + binding.rows, list(binding.columns)]
    command = taken.astype(np.float64) * binding.scale + binding.offset
    return command[0] if binding.rows == 1 else command
