"""The record of a frame is laid out, and its numbers are named, as the C header has it."""

import pytest

from inphase._core import ffi, lib
from inphase.frames import record_layout
from inphase.frames.record_layout import ACT, HEADER, ROW, Fields, RecordLayout

STRUCTS = {"inphase_frame": HEADER, "inphase_row": ROW, "inphase_act": ACT}


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_lies_where_the_header_has_it(name: str) -> None:
    ours, theirs = STRUCTS[name], ffi.typeof(f"struct {name}")
    assert ours.size == ffi.sizeof(theirs)
    assert [(field, ours.offset(field)) for field in ours.names] == [
        (field, described.offset) for field, described in theirs.fields
    ]


def test_a_field_is_taken_out_by_its_name() -> None:
    fields = Fields(a="q", b="H", c="I")
    packed = fields.pack(-7, 3, 9)
    assert fields.only("a", "c") == "q2xI"
    assert [fields.unpack(packed)[fields.index(name)] for name in "abc"] == [-7, 3, 9]
    with pytest.raises(AssertionError):
        fields.only("c", "a")


def test_the_parts_of_a_record_follow_each_other() -> None:
    layout = RecordLayout(2, (3, 1))
    assert [layout.row(0), layout.row(1)] == [HEADER.size, HEADER.size + ROW.size]
    assert layout.act(0) == layout.acts == HEADER.size + 2 * ROW.size
    assert (layout.requested(0), layout.applied(0)) == (layout.acts + 16, layout.acts + 16 + 24)
    assert (layout.act(1), layout.size) == (layout.acts + 16 + 48, layout.acts + 16 + 48 + 16 + 16)
    record = HEADER.pack(*range(22)) + ROW.pack(*range(10)) + ROW.pack(*range(50, 60))
    record += b"".join(ACT.pack(n, n + 1, c, 0) + bytes(16 * c) for n, c in ((5, 3), (7, 1)))
    assert len(record) == layout.size
    assert layout.sequences.unpack_from(record) == (0, 50)
    taken = layout.only(("cycle", "reason"), ("age_ns", "status"), ("flags",))
    assert taken.unpack_from(record) == (0, 14, 5, 7, 55, 57, 5, 7)
    assert layout.only(("state",)).unpack_from(record) == (16,)


def test_every_flag_and_reason_has_the_name_that_the_header_gives_it() -> None:
    for number, name in enumerate(record_layout.REASONS):
        assert getattr(lib, f"INPHASE_REASON_{name.upper()}") == number
    assert len(record_layout.REASONS) == lib.INPHASE_REASONS
    for number, name in enumerate(record_layout.STATUSES):
        assert getattr(lib, f"INPHASE_{name}") == number
    for number, name in enumerate(record_layout.OUTCOMES):
        assert getattr(lib, f"INPHASE_EPISODE_{name.upper()}") == number
    assert len(record_layout.OUTCOMES) == lib.INPHASE_EPISODES
    for number, name in enumerate(record_layout.SERVER_COUNTS):
        assert getattr(lib, f"INPHASE_SERVER_{name.upper()}") == number
    assert len(record_layout.SERVER_COUNTS) == lib.INPHASE_SERVER_COUNTS
    for number, name in enumerate(record_layout.DROVE):
        assert getattr(lib, f"INPHASE_DROVE_{name.upper()}") == number
    assert len(record_layout.DROVE) == lib.INPHASE_DROVES
    for bit, name in enumerate(record_layout.FRAME_FLAGS):
        assert getattr(lib, f"INPHASE_FLAG_{name}") == 1 << bit
    for bit, name in enumerate(record_layout.ACT_FLAGS):
        assert getattr(lib, f"INPHASE_ACT_{name}") == 1 << bit
    assert lib.INPHASE_ABSENT == record_layout.ABSENT
