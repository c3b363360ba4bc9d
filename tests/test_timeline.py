"""The picture of a cycle in a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from inphase.plan.timeline import Mark, Span, Timeline, render

PERIOD_NS = 2_000_000
SPANS = [
    Span("cycle", "trigger", 0, 20_000, "trigger"),
    Span("cycle", "read", 20_000, 1_200_000, "read"),
    Span("cycle", "latch", 1_200_000, 1_210_000, "latch"),
    Span("arm", "request", 0, 47_500, "bus"),
    Span("arm", "replies", 47_500, 430_200, "bus"),
]
MARKS = [
    Mark("read deadline", 1_200_000),
    Mark("act", 1_600_000),
    Mark("next due", PERIOD_NS),
]


def draw(spans: list[Span], marks: list[Mark], width: int) -> list[str]:
    return draw_timeline(Timeline(PERIOD_NS, spans, marks), width)


def draw_timeline(timeline: Timeline, width: int) -> list[str]:
    console = Console(width=width, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(render(timeline, width))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_fits_the_terminal(width: int) -> None:
    assert max(len(line) for line in draw(SPANS, MARKS, width)) <= width


def test_each_lane_has_a_row_and_each_span_a_line_of_the_table() -> None:
    lines = draw(SPANS, MARKS, 80)
    assert sum(line.startswith("cycle  ┃") or line.startswith("cycle  ┣") for line in lines) == 1
    (replies,) = [line for line in lines if line.startswith("arm") and "replies  " in line]
    offsets, deadline = ["47.5", "430.2", "382.7"], ["read", "deadline", "1200.0"]
    assert replies.split() == ["arm", "replies", *offsets, *deadline, "769.8"]


def test_marks_stand_in_the_column_of_their_instant() -> None:
    lines = draw([Span("arm", "x", 0, 1000, "bus")], MARKS, 80)
    (lane,) = [line for line in lines if line.startswith("arm  ") and "┊" in line]
    for name in ("read deadline 1200.0 ▼", "act 1600.0 ▼", "next due 2000.0 ▼"):
        (label,) = [line for line in lines if name in line and "slack" not in line][:1]
        assert lane[label.index(name) + len(name) - 1] == "┊"


def test_spans_that_overlap_in_a_lane_get_rows_of_their_own() -> None:
    spans = [Span("bus", "first", 0, 900_000, "bus"), Span("bus", "second", 500_000, 1_100_000, "")]
    rows = [line for line in draw(spans, MARKS, 80) if "┣" in line]
    assert [("first" in row, "second" in row) for row in rows] == [(True, False), (False, True)]


def test_a_short_span_is_not_hidden_by_its_neighbour() -> None:
    row = next(line for line in draw(SPANS, MARKS, 80) if line.startswith("cycle"))
    assert row.startswith("cycle  ┃┣")


def test_a_span_that_misses_its_deadline_has_negative_slack() -> None:
    lines = draw([Span("bus", "slow", 0, 1_300_000, "bus")], MARKS, 80)
    assert any(line.startswith("bus") and line.endswith("-100.0") for line in lines)


def test_a_span_that_leaves_the_period_is_cut_and_marked() -> None:
    lines = draw([Span("bus", "slow", 1_900_000, 2_300_000, "bus")], MARKS, 80)
    assert any("»" in line for line in lines)


offsets = st.integers(0, 2 * PERIOD_NS)
random_spans = st.builds(
    lambda lane, start, takes: Span(lane, "[bold]x", start, start + takes, "bus"),
    st.sampled_from(["cycle", "arm", "a lane with a very long name"]),
    offsets,
    offsets,
)


@given(st.lists(random_spans, max_size=12), st.lists(st.builds(Mark, st.just("m"), offsets)))
def test_any_spans_and_marks_can_be_drawn(spans: list[Span], marks: list[Mark]) -> None:
    draw(spans, marks, 80)
