"""A camera's images as a client wants them: size, crop, rate and codec, and how they are read."""

import io
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from inphase.errors import ServiceError, WireError, install

Pixels = Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]


class CameraView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera's images."""

    size: tuple[Pixels, Pixels] | None = None
    """[width, height] in pixels, after the crop and no larger; None: as they are"""
    crop: tuple[Pixels, Pixels, Pixels, Pixels] | None = None
    """[x, y, width, height] in pixels, x from the left, y from above; None: all of it"""
    every: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    """each so-manieth image is sent"""
    codec: Literal["raw", "jpeg", "png"] = "raw"
    """`jpeg` loses a little; the others are exact"""


Images = bool | Mapping[str, Mapping[str, Any] | CameraView]
"""whole images of all cameras, none, or views by camera; those that are not named do not come"""


def views_of(images: Images) -> bool | dict[str, CameraView]:
    """The wish of a client, checked. Raises ServiceError, also where Pillow is missing."""
    if isinstance(images, bool):
        return images
    views = {}
    for camera, wanted in images.items():
        try:
            views[camera] = msgspec.convert(
                wanted if isinstance(wanted, CameraView) else dict(wanted), CameraView
            )
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise ServiceError(
                f"camera {camera}: {error}; give size = [width, height], crop = [x, y, width, "
                f"height], every = n, codec = raw, jpeg or png"
            ) from error
    if any(view.codec != "raw" for view in views.values()):
        need_pillow("the codecs jpeg and png")
    return views


def need_pillow(what: str) -> None:
    """Raises ServiceError where Pillow, which is needed for that, is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise ServiceError(f"{what} want the package pillow; {install('PIL')}") from error


def decoded(camera: str, part: bytes, codec: str, dtype: np.dtype[Any]) -> bytes:
    """A sample of that dtype, whose one field is the image in a JPEG or PNG. Raises WireError."""
    from PIL import Image

    (field,) = dtype.names or ()
    shape = dtype[field].shape
    try:
        image = Image.open(io.BytesIO(part), formats=[codec])
        if image.size != (shape[1], shape[0]):  # told by its head: nothing is decoded yet
            raise ValueError(f"{image.size[0]} x {image.size[1]} pixels")
        colours = shape[2] if len(shape) == 3 else 1
        pixels = np.asarray(image.convert("L" if colours == 1 else "RGB")).tobytes()
    except Exception as error:  # a decoder's errors are of many kinds
        raise WireError(
            f"{camera}: no {codec} of {shape[1]} x {shape[0]} pixels came ({error})"
        ) from error
    return pixels.ljust(dtype.itemsize, b"\0")
