"""A schedule's tables of a policy that is a network: how numbers and images go in and come out."""

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
