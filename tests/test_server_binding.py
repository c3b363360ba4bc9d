"""A policy server's tables: what they refuse, what goes out, and how messages are read."""

import re
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from inphase import load
from inphase.errors import ScheduleError
from inphase.models.server_binding import SentImage, SentNumbers
from inphase.plan import plan as planning
from inphase.plan import validation
from inphase.policy.openpi import array_format, observation
from inphase.policy.openpi.array_format import Malformed
from peers import ROOT
from robots import demo_schedule

TABLES = """[policy]
allow = ["network"]
chunk = 8
every = 4
[policy.server]
url = "ws://127.0.0.1:8000"
[policy.server.actions]
order = [0, 1, 2, 3, 4, 5]
[policy.server.observation]
"observation/state" = { fields = ["joints.position"] }
prompt = { text = "sway" }
"""


def written(folder: Path, text: str) -> Path:
    """The demo robot with those tables."""
    path = demo_schedule(folder)
    whole = path.read_text()
    path.write_text(whole[: whole.index("[policy]")] + text)
    return path


STATE = '"observation/state" = { fields = ["joints.position"] }'
REFUSED = {
    "no network": ('allow = ["network"]', "", 'policy.allow: "network" is missing'),
    "http": ("ws://127.0.0.1:8000", "http://127.0.0.1", "url: not the address of a WebSocket"),
    "a password": ("127.0.0.1", "me:secret@127.0.0.1", "url: not the address of a WebSocket"),
    "a port": ("8000", "99999", "url: not the address of a WebSocket"),
    "history": ("chunk = 8", "chunk = 8\nhistory = 2", "policy.history: 2: a server is sent one"),
    "args": ("chunk = 8", "chunk = 8\nargs = { a = 1 }", "policy.args: only applies to call"),
    "a call too": ("chunk = 8", 'call = "a.py:b"', "call, model, remote and server is needed"),
    "a model's key": ("chunk = 8", 'outputs = { a = "arm" }', "outputs: only applies to a model"),
    "no kind": (STATE, '"a" = { dtype = "float64" }', "exactly one of fields, image and text"),
    "two kinds": (STATE, 'a = { text = "", image = "joints.position" }', "got image, text"),
    "another's key": (STATE, 'a = { text = "b", scale = 2.0 }', "scale: belongs to fields"),
    "no sensor": ("joints.position", "legs.position", "no such sensor, got 'legs.position'"),
    "no place": ("joints.position", "joints", "not a field, got 'joints'"),
    "no field": ("joints.position", "joints.angle", "no such field, got 'joints.angle'"),
    "no image": (STATE, 'a = { image = "joints.position" }', "which is no image"),
    "a side of none": (STATE, 'a = { image = "joints.position", size = [0, 4] }', "no part of"),
    "scales": (STATE, STATE.replace(" }", ", scale = [1.0, 2.0] }"), "6 values expected, got 2"),
    "nesting": (STATE, f'{STATE}\n"prompt.a" = {{ text = "" }}', "'prompt.a' is inside it"),
    "an empty part": (STATE, f'{STATE}\n"a..b" = {{ text = "" }}', "a part of the key is empty"),
    "too few columns": ("order = [0, 1, 2, 3, 4, 5]", "order = [0]", "1 columns for 6 channels"),
    "columns twice": ("order = [0, 1,", "order = [1, 1,", "different columns from 0 on"),
    "a column below": ("order = [0, 1,", "order = [-1, 1,", "different columns from 0 on"),
    "another key": ("order", "ordre", "ordre"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_does_not_fit_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    old, new, said = REFUSED[name]
    assert old in TABLES
    path = written(tmp_path, TABLES.replace(old, new, 1))
    with pytest.raises(ScheduleError, match=re.escape(said)):
        planning.make(validation.load(path))


def test_a_table_that_fits_is_taken(tmp_path: Path) -> None:
    described = planning.make(load(written(tmp_path, TABLES))).schedule
    assert described.policy is not None and described.policy.name == "ws://127.0.0.1:8000"


def test_the_page_has_a_schedule_that_fits_the_simulated_arm(tmp_path: Path) -> None:
    page = (ROOT / "middleware" / "POLICIES.md").read_text()
    section = page.partition("\n## A policy server\n")[2]
    snippet = section.partition("```toml\n")[2].partition("```")[0]
    text = (ROOT / "schedules" / "arm.toml").read_text()
    start, end = text.index("[policy]"), text.index("# ---- what follows")
    path = tmp_path / "arm.toml"
    path.write_text(text[:start] + snippet + text[end:])
    tmp_path.joinpath("arm.xml").symlink_to(ROOT / "schedules" / "arm.xml")
    made = planning.make(load(path))
    assert made.schedule.policy is not None and made.schedule.policy.server is not None


# ---- what goes out -----------------------------------------------------------------------------

RANDOM = np.random.default_rng(11)


def image(*, size: tuple[int, int], crop: tuple[int, int, int, int], planar: bool = False) -> Any:
    return SentImage(("camera", "image"), crop, size, planar)


def test_an_image_is_cropped_and_turned_and_else_as_it_is() -> None:
    pixels = RANDOM.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    part = pixels[1:5, 2:8]
    sent = image(size=(4, 6), crop=(1, 2, 4, 6))
    assert np.array_equal(observation._image(sent, pixels), part)
    turned = image(size=(4, 6), crop=(1, 2, 4, 6), planar=True)
    assert np.array_equal(observation._image(turned, pixels), part.transpose(2, 0, 1))
    grey = observation._image(turned, pixels[..., 0])
    assert np.array_equal(grey, part[np.newaxis, ..., 0])


@pytest.mark.parametrize("shape", [(40, 80, 3), (40, 80), (40, 80, 1), (40, 80, 4)])
def test_a_resized_image_keeps_its_proportions_in_a_black_one(shape: tuple[int, ...]) -> None:
    pixels = np.full(shape, 200, np.uint8)
    found = observation._image(image(size=(20, 20), crop=(0, 0, 40, 80)), pixels)
    assert found.shape == (20, 20, *shape[2:]) and found.dtype == np.uint8
    assert (found[5:15] == 200).all()
    assert not found[:5].any() and not found[15:].any()


def test_numbers_are_scaled_and_of_their_dtype() -> None:
    values = {"joints": {"position": np.array([1.0, 2.0])}, "grip": {"width": np.array(0.5)}}
    sent = SentNumbers(
        (("joints", "position"), ("grip", "width")),
        np.dtype("float32"),
        np.array([2.0, 2.0, 10.0]),
        np.array([0.0, 1.0, 0.0]),
    )
    frame: Any = values
    found = observation._value(sent, frame)
    assert found.dtype == np.float32
    assert found.tolist() == [2.0, 5.0, 5.0]


# ---- how messages are read ---------------------------------------------------------------------


def packed(data: Any, dtype: Any, shape: Any, mark: Any = True) -> Any:
    return {b"__ndarray__": mark, b"data": data, b"dtype": dtype, b"shape": shape}


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        [1.0, 2.0],
        {},
        packed(b"1234", "<f4", [1], mark=1),
        packed("1234", "<f4", [1]),
        packed(b"1234", "<f4", [2]),
        packed(b"1234", "<f4", [-1]),
        packed(b"1234", "<f4", [1.0]),
        packed(b"1234", "<f4", [True]),
        packed(b"1234", "<f4", [[1]]),
        packed(b"1234", "<f4", {"a": 1}),
        packed(b"1234", "<f4", [1] * 9),
        packed(b"", "<f4", [0, 2**40]),
        packed(b"1234", b"<f4", [1]),
        packed(b"1234", "f4", [1]),
        packed(b"1", "<f1", [1]),
        packed(b"1234", "|O", [1]),
        packed(b"1234", "|V4", [1]),
        packed(b"1234", "<M8[s]", [1]),
        packed(b"1234", "<U1", [1]),
        packed(b"1234", "<f4\n", [1]),
    ],
)
def test_an_array_that_is_none_is_refused(value: Any) -> None:
    unpacked = array_format.unpack(msgpack.packb({"actions": value}))
    with pytest.raises(Malformed):
        array_format.array(unpacked["actions"], "actions")


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "|u1", "<i8", "<u4"])
def test_an_array_of_numbers_is_read_as_it_was_sent(dtype: str) -> None:
    values = np.arange(12).astype(dtype).reshape(3, 4)
    unpacked = array_format.unpack(array_format.pack({"actions": values}))
    found = array_format.array(unpacked["actions"], "actions")
    assert found.dtype == values.dtype and np.array_equal(found, values)


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_were_changed_at_random_are_read_or_refused(seed: int) -> None:
    random = np.random.default_rng(seed)
    whole = array_format.pack({"actions": np.zeros((8, 6), np.float32), "timing": {}})
    for _ in range(200):
        changed = bytearray(whole)
        for at in random.integers(0, 80, random.integers(1, 6)):
            changed[at] = random.integers(0, 256)
        message = bytes(changed[: random.integers(0, len(changed) + 1)])
        try:
            unpacked = array_format.unpack(message)
            array_format.array(unpacked.get("actions"), "actions")
        except Malformed as error:
            assert len(str(error)) < 300
