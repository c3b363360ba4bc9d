"""The wire format: the page's vectors, headers there and back, and headers that are none."""

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import inphase
from inphase.episodes.lockstep import LockStep
from inphase.errors import WireError
from inphase.frames import meanings, record_layout, wire
from inphase.frames.frame import FrameLost
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from robots import demo_schedule

PAGE = Path(inphase.__file__).with_name("WIRE.md")
SAMPLES = struct.pack("<2d", 1.5, -2.0)


def vectors() -> dict[str, bytes]:
    """The hexadecimal blocks of the page by name."""
    (block,) = re.findall(r"^```\n(topic:.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {
        name: bytes.fromhex(digits) for name, digits in re.findall(r"(\w+):\n([0-9a-f\s]+)", block)
    }


def make_form(actuators: int = 1) -> Form:
    layout = Layout(
        robot="vector",
        hash="0123456789abcdef",
        epoch=0x1122334455667788,
        period_ns=2_000_000,
        sensors=("touch",),
        dtypes=(wire.sample_dtype([("force", (2,), "<f8")]),),
        units=({"force": "N"},),
        depths=(16,),
        actuators=(("finger", 1, "rad"),) * actuators,
        rates=({},),
    )
    return Form(layout, wire.places([16]))


def test_the_header_of_the_page_is_written_to_the_byte() -> None:
    page = vectors()
    header = make_form().write_header(page["record"], 9, 14_600_000, b"\1")
    assert header.hex() == page["header"].hex()


def test_the_message_of_the_page_is_read_to_the_byte() -> None:
    page = vectors()
    frame, number = make_form().read([page["topic"], page["header"], page["samples"]])
    assert page["topic"] == wire.TOPIC_FRAME and page["samples"] == SAMPLES
    assert (frame.record, number) == (page["record"], 9)
    assert (frame.cycle, frame.skew_ns, frame.flags) == (7, None, ("OBSERVING",))
    assert frame["touch"].value["force"].tolist() == [1.5, -2.0]
    assert not frame["touch"].value.flags.writeable
    with pytest.raises(KeyError, match=r"no field 'forces' .*there are: force"):
        frame["touch"].value["forces"]
    act = frame.command["finger"]
    assert (act.flags, act.applied.tolist()) == (("HOLDING",), [0.25])


def test_msgpack_reads_the_header_and_one_that_it_writes_is_read() -> None:
    page = vectors()
    header = msgpack.unpackb(page["header"])
    assert header[:5] == [5, "0123456789abcdef", 0x1122334455667788, 9, 14_600_000]
    assert tuple(header[5]) == record_layout.HEADER.unpack_from(page["record"])
    assert header[6] == [[7, 7, 14_015_000, 14_100_000, 14_400_000, 400_000, 0, 0, 0, 0, 1]]
    compact = msgpack.packb(header)
    assert len(compact) < len(page["header"])
    frame, _ = make_form().read([page["topic"], compact, page["samples"]])
    assert frame.record == page["record"]


def test_a_sample_that_is_not_there_is_never_handed_out() -> None:
    page = vectors()
    header = make_form().write_header(page["record"], 9, 14_600_000, b"\0")
    frame, _ = make_form().read([page["topic"], header, bytes(16)])
    assert not frame["touch"].intact and not frame.intact
    with pytest.raises(FrameLost, match="touch"):
        _ = frame["touch"].value
    with pytest.raises(FrameLost, match="touch"):
        frame.copy()


def test_a_frame_of_another_run_is_refused() -> None:
    page = vectors()
    header = msgpack.unpackb(page["header"])
    header[2] += 1
    with pytest.raises(WireError, match="another run"):
        make_form().read([page["topic"], msgpack.packb(header), page["samples"]])


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b""], id="no header"),
        pytest.param([b"", b""], id="no samples"),
        pytest.param([b"", None, SAMPLES[:-1]], id="samples too short"),
        pytest.param([b"", None, SAMPLES, b""], id="a part too many"),
        pytest.param([b"", b"\xc1" * 300, SAMPLES], id="not MessagePack"),
    ],
)
def test_a_message_with_wrong_parts_is_refused(parts: list[bytes | None]) -> None:
    whole = [vectors()["header"] if part is None else part for part in parts]
    with pytest.raises(WireError):
        make_form().read(whole)


def test_a_header_of_another_robot_is_refused() -> None:
    page = vectors()
    with pytest.raises(WireError, match="not a frame of vector"):
        make_form(actuators=2).read([page["topic"], page["header"], page["samples"]])


def test_a_header_that_is_cut_anywhere_is_refused() -> None:
    page = vectors()
    form = make_form()
    for size in range(len(page["header"])):
        with pytest.raises(WireError):
            form.read([page["topic"], page["header"][:size], page["samples"]])
    with pytest.raises(WireError):
        form.read([page["topic"], page["header"] + b"\0", page["samples"]])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_header_is_refused_or_is_one_that_msgpack_reads_too(data: st.DataObject) -> None:
    page = vectors()
    header = bytearray(page["header"])
    for _ in range(data.draw(st.integers(1, 4))):
        header[data.draw(st.integers(0, len(header) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame, number = make_form().read([page["topic"], bytes(header), page["samples"]])
    except WireError:
        return
    found = msgpack.unpackb(bytes(header), raw=True)
    assert number == found[3]
    assert record_layout.HEADER.unpack_from(frame.record) == tuple(found[5])


def test_large_samples_have_parts_of_their_own() -> None:
    sizes = [16, wire.PACKED_MAX, wire.PACKED_MAX + 8, 8, 6_220_800]
    assert [tuple(place) for place in wire.places(sizes)] == [
        (2, 0, 16),
        (2, 16, wire.PACKED_MAX),
        (3, 0, wire.PACKED_MAX + 8),
        (2, 16 + wire.PACKED_MAX, 8),
        (4, 0, 6_220_800),
    ]


@pytest.mark.parametrize("place", [(1, 0, 16), (2, -8, 16), (2, 0, 8), (10**9, 0, 16)])
def test_a_place_that_no_message_has_is_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        Form(make_form().layout, [wire.Place(*place)])


# ---- the page's tables ---------------------------------------------------------------------------


def rows(head: str) -> list[list[str]]:
    """The cells below a head of a table of the page, without marks of code."""
    table = PAGE.read_text().split(f"{head}\n", 1)[1].split("\n\n", 1)[0]
    lines = [line.removeprefix("| ").removesuffix(" |") for line in table.splitlines()[1:]]
    return [[cell.replace("`", "") for cell in line.split(" | ")] for line in lines]


@pytest.mark.parametrize(
    ("heading", "first", "kind"),
    [
        ("Statuses of a sample", "number", "status"),
        ("States of a robot", "number", "state"),
        ("Flags of a frame", "bit", "flag of a frame"),
        ("Flags of an act", "bit", "flag of an act"),
        ("Reasons", "number", "reason"),
    ],
)
def test_the_page_has_every_name_with_its_number(heading: str, first: str, kind: str) -> None:
    section = PAGE.read_text().split(f"\n### {heading}\n", 1)[1]
    table = section.split(f"| {first} | name | meaning |\n", 1)[1].split("\n\n", 1)[0]
    found = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    assert found == [
        [str(number), name, meaning.meaning]
        for number, (name, meaning) in enumerate(meanings.KINDS[kind].items())
    ]


@pytest.fixture
def lockstep(tmp_path: Path) -> Iterator[LockStep]:
    """The demo robot."""
    with LockStep(inphase.load(demo_schedule(tmp_path))) as robot:
        yield robot


def test_the_page_has_every_counter_of_the_control_socket(lockstep: LockStep) -> None:
    reader = lockstep.follower.reader
    for head, counters in (("status", reader.status()), ("counts", reader.counts())):
        table = rows(f"| key of `{head}` | meaning |")
        assert [name for name, _ in table] == list(counters)
        assert all(meaning for _, meaning in table)


def test_the_page_has_every_key_of_a_description(lockstep: LockStep) -> None:
    plan = lockstep.plan
    described = msgpack.unpackb(
        plan.description(1, host="", store="", wall_offset_ns=0, lockstep={})
    )
    keys = {key for row in rows("| key | value |") for key in row[0].split(", ")}
    assert set(described) == keys
    sensor = {key for row in rows("| key of a sensor | value |") for key in row[0].split(", ")}
    assert set(described["sensors"][0]) == sensor - {"part", "offset", "size"}  # the gateway's
    (said,) = re.findall(r"^\| `actuators` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    assert set(described["actuators"][0]) <= set(re.findall(r"`(\w+)`", said))


def test_a_description_names_the_numbers_of_its_frames(lockstep: LockStep) -> None:
    described = msgpack.unpackb(lockstep.plan.description(1))
    assert described["statuses"] == list(record_layout.STATUSES)
    assert described["reasons"] == list(record_layout.REASONS)
    assert described["states"] == list(record_layout.STATES)
    assert described["frame_flags"] == list(record_layout.FRAME_FLAGS)
    assert described["act_flags"] == list(record_layout.ACT_FLAGS)
