"""Images for networks that take them as numbers, in a layout and on a scale of their own."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import models
from inphase.errors import ScheduleError
from inphase.frames import wire
from inphase.models import model_binding
from models import node, port, tensor
from test_onnx import JOINTS, Asked, by_its_own, demo, keys

HEIGHT, WIDTH = 4, 5
SCALE = 0.00392156862745098
PLANAR = f'{{ image = {{ layout = "NCHW", scale = {SCALE} }} }}'
RANDOM = np.random.default_rng(5)
WEIGHTS = RANDOM.standard_normal((3 * HEIGHT * WIDTH, JOINTS)).astype(np.float32)


def network(kind: str, *shape: int | str) -> bytes:
    """Every number of the image with a weight of its own."""
    sides = [side for side in shape if isinstance(side, int)]
    numbers = int(np.prod(sides))
    if "h" in shape:  # open: those of the camera
        numbers = 3 * HEIGHT * WIDTH
    nodes = [
        *([node("Cast", ["image"], ["light"], models.attribute("to", 1))] if kind != "float32"
          else []),
        node("Reshape", ["image" if kind == "float32" else "light", "flat"], ["row"]),
        node("MatMul", ["row", "w"], ["action"]),
    ]  # fmt: skip
    return models.model(
        nodes,
        [port("image", kind, shape)],
        [port("action", "float32", (1, JOINTS))],
        [tensor("flat", np.array([1, -1])), tensor("w", WEIGHTS[:numbers])],
    )


def bound(
    folder: Path, data: bytes, field: tuple[int, ...] = (HEIGHT, WIDTH, 3), **more: str
) -> Asked:
    """The network as C runs it, with a camera's field of that shape."""
    schedule = demo(folder, data, keys(**({"inputs": '{ image = ["joints.image"] }'} | more)))
    joints = [("position", (JOINTS,), "<f8"), ("velocity", (JOINTS,), "<f8")]
    dtypes = {
        "joints": wire.sample_dtype([*joints, ("image", field, "|u1")]),
        "wrench": wire.sample_dtype([("count", (), "<f8")]),
    }
    return Asked(schedule, model_binding.make(schedule, dtypes, {"arm": JOINTS}), dtypes)


def picture(*shape: int) -> NDArray[np.uint8]:
    """An image in which every value may be."""
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("batch", [(1,), (), ("batch",)], ids=["one", "none", "open"])
def test_a_network_takes_an_image_as_torchvision_gives_it(
    tmp_path: Path, batch: tuple[int | str, ...]
) -> None:
    data = network("float32", *batch, 3, HEIGHT, WIDTH)
    model = bound(tmp_path, data, images=PLANAR)
    image = picture(HEIGHT, WIDTH, 3)
    # torchvision: to float32, divided by 255, channels first
    turned = (image.astype(np.float32) / np.float32(255)).transpose(2, 0, 1)
    expected = by_its_own(data, image=turned.reshape(*(1 for _ in batch), 3, HEIGHT, WIDTH))
    assert np.array_equal(model(joints_image=image), expected)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        (("b", 3, "h", "w"), "NCHW"),
        ((1, "c", "h", "w"), "NCHW"),
        (("b", "h", "w", 3), "NHWC"),
        (("h", "w", 3), "NHWC"),
    ],
)
def test_open_sides_are_those_of_the_camera(
    tmp_path: Path, shape: tuple[int | str, ...], layout: str
) -> None:
    data = network("float32", *shape)
    images = f'{{ image = {{ layout = "{layout}", scale = {SCALE} }} }}'
    model = bound(tmp_path, data, images=images)
    image = picture(HEIGHT, WIDTH, 3)
    lying = (image * SCALE).astype(np.float32)
    given = lying.transpose(2, 0, 1) if layout == "NCHW" else lying
    given = given if len(shape) == 3 else given[np.newaxis]
    assert np.array_equal(model(joints_image=image), by_its_own(data, image=given))


def test_open_sides_of_one_name_are_of_one_size(tmp_path: Path) -> None:
    data = network("float32", "b", 3, "h", "h")
    with pytest.raises(ScheduleError, match=r"has the shape \['b', 3, 'h', 'h'\].*\[1, 3, 4, 5\]"):
        bound(tmp_path, data, images=PLANAR)


def test_the_first_message_on_open_sides_ends(tmp_path: Path) -> None:
    data = network("float32", "b", 3, "h", "w")
    with pytest.raises(ScheduleError, match="say how its pixels go in") as told:
        bound(tmp_path, data)
    images = str(told.value).partition("images = ")[2]
    assert images == PLANAR
    bound(tmp_path, data, images=images)


def test_every_value_is_scaled_as_a_division_by_255_scales_it() -> None:
    values = np.arange(256)
    ours = (values * SCALE).astype(np.float32)
    assert np.array_equal(ours, values.astype(np.float32) / np.float32(255))


def test_mean_and_deviation_are_those_of_the_scaled_channels(tmp_path: Path) -> None:
    data = network("float32", 1, 3, HEIGHT, WIDTH)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalise = f"{{ image = {{ mean = {mean.tolist()}, std = {std.tolist()} }} }}"
    model = bound(tmp_path, data, images=PLANAR, normalise=normalise)
    image = picture(HEIGHT, WIDTH, 3)
    turned = ((image * SCALE - mean) / std).astype(np.float32).transpose(2, 0, 1)
    assert np.array_equal(model(joints_image=image), by_its_own(data, image=turned[np.newaxis]))


def test_numbers_may_lie_as_the_camera_has_them(tmp_path: Path) -> None:
    data = network("float32", 1, HEIGHT, WIDTH, 3)
    model = bound(tmp_path, data, images=f"{{ image = {{ scale = {SCALE} }} }}")
    image = picture(HEIGHT, WIDTH, 3)
    expected = by_its_own(data, image=(image * SCALE).astype(np.float32)[np.newaxis])
    assert np.array_equal(model(joints_image=image), expected)


@pytest.mark.parametrize(
    "shape", [(1, 1, HEIGHT, WIDTH), (1, HEIGHT, WIDTH)], ids=["four", "three"]
)
def test_a_grey_image_is_one_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = network("float32", *shape)
    model = bound(tmp_path, data, (HEIGHT, WIDTH), images=PLANAR)
    image = picture(HEIGHT, WIDTH)
    expected = by_its_own(data, image=(image * SCALE).astype(np.float32).reshape(shape))
    assert np.array_equal(model(joints_image=image), expected)


def test_bytes_go_in_channel_by_channel_too(tmp_path: Path) -> None:
    data = network("uint8", 1, 3, HEIGHT, WIDTH)
    model = bound(tmp_path, data, images='{ image = { layout = "NCHW" } }')
    image = picture(HEIGHT, WIDTH, 3)
    expected = by_its_own(data, image=np.ascontiguousarray(image.transpose(2, 0, 1))[np.newaxis])
    assert np.array_equal(model(joints_image=image), expected)


# ---- what is refused, and what its advice leads to -----------------------------------------------

REFUSED: dict[str, tuple[bytes, dict[str, str], str]] = {
    "floats of planes": (network("float32", 1, 3, HEIGHT, WIDTH), {}, "is an image of float32"),
    "floats as they lie": (network("float32", 1, HEIGHT, WIDTH, 3), {}, "is an image of float32"),
    "bytes of planes": (network("uint8", 1, 3, HEIGHT, WIDTH), {}, "has the shape [1, 3, 4, 5]"),
    "another layout": (
        network("float32", 1, 3, HEIGHT, WIDTH), {"images": "{ image = { scale = 0.5 } }"},
        "scale = 0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_the_advice_for_an_image_makes_a_policy_that_runs(tmp_path: Path, name: str) -> None:
    data, more, words = REFUSED[name]
    with pytest.raises(ScheduleError) as refused:
        bound(tmp_path, data, **more)
    text = str(refused.value)
    assert ": policy.model: " in text and words in text, text
    advice = re.search(r"images = (\{.*\})$", text)
    assert advice is not None, text
    command: Any = bound(tmp_path, data, images=advice[1])(joints_image=picture(HEIGHT, WIDTH, 3))
    assert command.shape == (JOINTS,)


@pytest.mark.parametrize(
    ("data", "more", "key", "words"),
    [
        (network("float32", 1, 3, HEIGHT, 6), {"images": PLANAR}, "policy.model",
         "give the camera that size, or export the network for [1, 3, 4, 5]"),
        (network("uint8", 1, HEIGHT, WIDTH, 3), {"images": "{ image = { scale = 0.5 } }"},
         "policy.images.image.scale", "remove scale"),
        (network("uint8", 1, HEIGHT, WIDTH, 3), {"normalise": "{ image = { mean = 0.5 } }"},
         "policy.normalise.image", "remove its normalisation"),
        (network("float32", 1, 3, HEIGHT, WIDTH), {"images": "{ picture = { scale = 0.5 } }"},
         "policy.images.picture", "no such tensor in inputs"),
        (models.network((2 * JOINTS, JOINTS)),
         {"images": "{ obs = { scale = 0.5 } }",
          "inputs": '{ obs = ["joints.position", "joints.velocity"] }'},
         "policy.images.obs", "remove it from images"),
        (network("float32", 1, 3, HEIGHT, WIDTH),
         {"images": PLANAR, "normalise": "{ image = { mean = [0.5, 0.5] } }"},
         "policy.normalise.image", "mean has 2 numbers for 3"),
    ],
    ids=["another size", "scaled bytes", "normalised bytes", "no input", "no image", "channels"],
)  # fmt: skip
def test_an_image_that_cannot_go_in_is_refused_at_its_key(
    tmp_path: Path, data: bytes, more: dict[str, str], key: str, words: str
) -> None:
    with pytest.raises(ScheduleError) as refused:
        bound(tmp_path, data, **more)
    assert f": {key}: " in str(refused.value) and words in str(refused.value), str(refused.value)
