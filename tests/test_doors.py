"""What comes from outside, whatever it is, is answered with one of the project's own errors."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from inphase import load
from inphase.command.cli import cli
from inphase.episodes.lockstep import LockStep
from inphase.errors import InphaseError, RecordingError, ScheduleError, StoreError, WireError
from inphase.frame import Frame
from inphase.frames import record_layout, wire
from inphase.frames.message import Form
from inphase.frames.record_layout import REASONS
from inphase.frames.sending import describe
from inphase.frames.store_follower import StoreFollower
from inphase.frames.subscription import ZmqFollower
from inphase.models import safetensors_file
from inphase.runtime.gateway import ControlSocket
from robots import demo_schedule
from test_wire import make_form, vectors

EXAMPLES = settings(max_examples=150, deadline=None)
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every part of a value of maps and lists."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [at, *(path for key, item in items for path in places(item, (*at, key)))]


def changed(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    """A copy of a value with another part at a path."""
    if not path:
        return put
    copy = value.copy()
    copy[path[0]] = changed(copy[path[0]], path[1:], put)
    return copy


# ---- descriptions --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with LockStep(load(demo_schedule(tmp_path_factory.mktemp("doors")))) as robot:
        robot.run(3)
        yield robot


@EXAMPLES
@given(data=st.data())
def test_a_description_with_anything_anywhere_is_one_or_a_value_error(
    robot: LockStep, data: st.DataObject
) -> None:
    description = describe(robot.follower.reader)
    path = data.draw(st.sampled_from(places(description)))
    wrong = changed(description, path, data.draw(ANY))
    with suppress(ValueError):
        Form.from_description(wire.unpack_description(msgpack.packb(wrong)))


@EXAMPLES
@given(st.binary(max_size=64))
def test_bytes_that_are_no_description_are_a_value_error(packed: bytes) -> None:
    with pytest.raises(ValueError):
        Form.from_description(wire.unpack_description(packed))


WRONG: dict[str, dict[str, Any]] = {
    "a hash that is a number": {"hash": 7},
    "a rate that is a list": {"sensors": [{"rate": [1]}]},
    "a period of nothing": {"period_ns": 0},
    "no period": {"period_ns": "1"},
}


@pytest.mark.parametrize("name", WRONG)
def test_the_door_of_a_subscriber_names_where_it_came_from(robot: LockStep, name: str) -> None:
    description = describe(robot.follower.reader)
    wrong = dict(WRONG[name])
    if "sensors" in wrong:
        wrong["sensors"] = [{**description["sensors"][0], **wrong["sensors"][0]}]
    subscriber = ZmqFollower.__new__(ZmqFollower)
    subscriber._endpoint = "ipc:///tmp/somewhere"
    message = wire.TOPIC_DESCRIPTION + msgpack.packb({**description, **wrong})
    with pytest.raises(WireError, match="ipc:///tmp/somewhere: not a description of inphase"):
        subscriber._take_description(message)


def test_a_store_with_a_description_that_is_none_is_named(
    robot: LockStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = robot.core.segment.path
    unpack = wire.unpack_description
    for packed in (b"\xc1", b"\xff" * 9, msgpack.packb([1]), msgpack.packb({"wire": wire.VERSION})):
        monkeypatch.setattr(wire, "unpack_description", lambda _, packed=packed: unpack(packed))
        with pytest.raises(StoreError, match=path):
            StoreFollower(path)


# ---- frames of another version -----------------------------------------------------------------


def test_a_number_that_this_version_does_not_know_is_said() -> None:
    page = vectors()
    record = bytearray(page["record"])
    header = [*record_layout.HEADER.unpack_from(record)]
    header[14], header[16], header[19] = 991, 992, 996
    record_layout.HEADER.pack_into(record, 0, *header)
    row = [*record_layout.ROW.unpack_from(record, record_layout.HEADER.size)]
    row[7], row[8] = 993, 994
    record_layout.ROW.pack_into(record, record_layout.HEADER.size, *row)
    at = record_layout.HEADER.size + record_layout.ROW.size
    act = [*record_layout.ACT.unpack_from(record, at)]
    record_layout.ACT.pack_into(record, at, act[0], 995, *act[2:])
    frame = Frame(make_form().layout, bytes(record), None)  # type: ignore[arg-type]
    assert (frame.reason, frame.state) == ("unknown (991)", "unknown (992)")
    assert frame.outcome == "unknown (996)"
    assert (frame["touch"].status, frame["touch"].reason) == ("unknown (993)", "unknown (994)")
    assert frame.command["finger"].reason == "unknown (995)"
    assert record_layout.name_of(len(REASONS) - 1, REASONS) == REASONS[-1]


# ---- requests ------------------------------------------------------------------------------


@EXAMPLES
@given(st.binary(max_size=40) | ANY.map(msgpack.packb))
def test_any_request_of_a_client_is_answered(robot: LockStep, request_: bytes) -> None:
    control = ControlSocket.__new__(ControlSocket)
    control._reader = robot.follower.reader
    reply = msgpack.unpackb(control.answer(request_))
    assert reply["ok"] is False and reply["error"]


# ---- files -----------------------------------------------------------------------------------


@EXAMPLES
@given(data=st.data())
def test_weights_with_anything_anywhere_in_their_header_are_refused(data: st.DataObject) -> None:
    header = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {}}
    path = data.draw(st.sampled_from(places(header)))
    text = json.dumps(changed(header, path, data.draw(JSON))).encode()
    with suppress(ScheduleError):
        safetensors_file.check(
            Path("net.safetensors"), len(text).to_bytes(8, "little") + text + bytes(8)
        )


NO_RECORDINGS = ["[]", "7", '"x"', "{}", '{"sensors": []}', "[" * 100_000, "\x00", '{"robot": 1}']


@pytest.mark.parametrize("text", NO_RECORDINGS, ids=range(len(NO_RECORDINGS)))
@pytest.mark.parametrize("command", ["fit", "check", "replay", "report", "recover"])
def test_what_is_no_recording_is_refused_with_the_files_name(
    tmp_path: Path, text: str, command: str
) -> None:
    path = tmp_path / "run.mcap"
    path.write_text(text)
    result = CliRunner().invoke(cli, [command, str(path)])
    assert isinstance(result.exception, RecordingError)
    assert str(path) in str(result.exception)


# ---- schedules -----------------------------------------------------------------------------------

TWO: dict[str, tuple[str, str, str]] = {
    "in two sensors, after one that is right": (
        "[sensor.a]\ndevice = 'd'\nmax_age_ms = 9\ntrigger_us = 0\n\n"
        "[sensor.b]\ndevice = 'd'\nmax_age_ms = 9\ntrigger_us = 'x'\n\n"
        "[sensor.c]\ndevice = 'd'\nmax_age_ms = 9\ntrigger_us = 'y'\n",
        ":16: sensor.b.trigger_us:",
        "'x'",
    ),
    "an unknown key in two": (
        "[sensor.a]\ndevice = 'd'\nmax_age_ms = 9\ntrigger_us = 0\n\n"
        "[sensor.b]\ndevice = 'd'\nmax_age_ms = 9\nodd = 1\n\n"
        "[sensor.c]\ndevice = 'd'\nmax_age_ms = 9\nodd = 2\n",
        ":16: sensor.b.odd:",
        "value 1",
    ),
    "a missing key in two": (
        "[sensor.a]\ndevice = 'd'\nmax_age_ms = 9\n\n[sensor.b]\n\n[sensor.c]\n",
        ":12: sensor.b",
        "device is missing",
    ),
    "in tables of tables": (
        "[sensor.a]\ndevice = 'd'\nmax_age_ms = 9\n"
        "range = { one = [0.0, 1.0], two = [0.0, 1.0] }\n\n"
        "[sensor.b]\ndevice = 'd'\nmax_age_ms = 9\n"
        "range = { one = [0.0, 1.0], two = ['x', 1.0] }\n\n"
        "[sensor.c]\ndevice = 'd'\nmax_age_ms = 9\nrange = { six = ['z', 1.0] }\n",
        ":16: sensor.b.range.two",
        "'x'",
    ),
}
HEAD = "name = 'two'\n\n[cycle]\nrate_hz = 100\nread_deadline_us = 1\nact_us = 2\n\n"


@pytest.mark.parametrize("name", TWO)
def test_of_two_like_mistakes_the_first_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    text, place, what = TWO[name]
    path = tmp_path / "two.toml"
    path.write_text(HEAD + text)
    with pytest.raises(ScheduleError) as refused:
        load(path)
    assert place in str(refused.value) and what in str(refused.value)


VALUES = st.sampled_from(["1", "-1", "'x'", "[]", "[1, 2]", "{ x = 1 }", "true", "nan", "1e400"])


@EXAMPLES
@given(data=st.data())
def test_a_schedule_with_two_values_that_do_not_fit_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    lines = Path("schedules/demo.toml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if " = " in line and line[0].isalpha()]
    for number in data.draw(st.lists(st.sampled_from(keys), min_size=2, max_size=2)):
        key = lines[number].partition(" = ")[0]
        lines[number] = f"{key} = {data.draw(VALUES)}"
    path = tmp_path_factory.getbasetemp() / "changed.toml"
    path.write_text("\n".join(lines))
    with suppress(InphaseError):
        load(path)


@pytest.mark.parametrize("shape", ["[1.0, 1e6]", "[1.0, 710.0]", "[1e308, 300.0]"])
def test_a_distribution_that_is_too_wide_for_numbers_is_refused_with_its_line(
    tmp_path: Path, shape: str
) -> None:
    path = demo_schedule(tmp_path)
    path.write_text(
        f"{path.read_text()}\n[timing.policy]\ninference_ms = {{ lognormal = {shape}, high = 5 }}\n"
    )
    with pytest.raises(ScheduleError, match=r"timing\.policy\.inference_ms: .*beyond all numbers"):
        LockStep(load(path))
