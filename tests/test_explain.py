"""Words of frames and runs have one table; the command, the pages and the code agree with it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import words
from inphase import errors
from inphase.command import explain
from inphase.errors import ScheduleError
from inphase.frames import meanings, record_layout
from inphase.runtime import summary
from peers import BOUND_S, ROOT

ORDERED = {
    "status": record_layout.STATUSES,
    "reason": record_layout.REASONS,
    "flag of a frame": record_layout.FRAME_FLAGS,
    "flag of an act": record_layout.ACT_FLAGS,
    "state": record_layout.STATES,
    "outcome": record_layout.OUTCOMES,
    "driver of an act": record_layout.DROVE,
}


@pytest.mark.parametrize("kind", ORDERED)
def test_every_name_of_a_number_has_a_meaning_in_the_order_of_the_numbers(kind: str) -> None:
    assert tuple(meanings.KINDS[kind]) == ORDERED[kind]
    assert all(meaning.meaning for meaning in meanings.KINDS[kind].values())


def test_every_exit_code_has_a_meaning() -> None:
    codes = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.InphaseError)
    }
    codes |= {number for name, number in vars(summary).items() if name.startswith("EXIT_")}
    assert len(codes) > 8
    assert {str(code) for code in codes} <= set(meanings.EXIT_CODES)


def test_what_is_wrong_has_a_remedy() -> None:
    for word in set(meanings.STATUSES) - {"FRESH"}:
        assert meanings.STATUSES[word].remedy, word
    ends = {"none", "done", "request", "signal", "parent"}
    for word in set(meanings.REASONS) - ends:
        assert meanings.REASONS[word].remedy, word


def test_a_word_that_a_remedy_explains_is_one() -> None:
    for kind in meanings.KINDS.values():
        for meaning in kind.values():
            for word in re.findall(r"`inphase explain (\w+)`", meaning.remedy):
                assert word == "REASON" or explain.of((word,))


def rows(page: str, head: str) -> list[tuple[str, str]]:
    """The first two cells of the table with this head, without marks of code."""
    table = (ROOT / page).read_text().split(f"{head}\n", 1)[1].split("\n\n", 1)[0]
    cells = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    return [(row[0].replace("`", ""), row[1].replace("`", "")) for row in cells]


@pytest.mark.parametrize(
    ("page", "head", "kind"),
    [
        ("middleware/SENSORS.md", "| status | meaning |", "status"),
        ("middleware/STATES.md", "| state | meaning |", "state"),
        ("docs/how-to/read-a-summary.md", "| code | meaning |", "exit code"),
    ],
)
def test_a_page_with_such_a_table_has_the_same_words(page: str, head: str, kind: str) -> None:
    assert dict(rows(page, head)) == {
        word: meaning.meaning for word, meaning in meanings.KINDS[kind].items()
    }


def test_the_reference_has_every_word() -> None:
    page = words.render()
    for kind in meanings.KINDS.values():
        for word, meaning in kind.items():
            assert f"| `{word}` | {meaning.meaning.replace('|', chr(92) + '|')} |" in page
    assert words.MARK in (ROOT / f"{words.PAGE}.md").read_text()


def asked(*question: str) -> Iterator[tuple[str, str]]:
    return ((one.word, one.kind) for one in explain.of(question))


def test_a_word_a_key_and_a_question_are_explained() -> None:
    assert list(asked("LATE")) == [("LATE", "status")]
    assert list(asked("late")) == [("LATE", "status")]
    assert list(asked("why", "is", "my", "sensor", "LATE?")) == [("LATE", "status")]
    assert list(asked("why is joints (silent)?")) == [("silent", "reason")]
    assert list(asked("LIMITED")) == [("LIMITED", "flag of a frame"), ("LIMITED", "flag of an act")]
    assert list(asked("7")) == [("7", "exit code")]
    assert list(asked("cycle.act_us")) == [("cycle.act_us", "key of a schedule")]
    assert list(asked("max_hold_ms")) == [
        ("actuator.NAME.max_hold_ms", "key of a schedule"),
        ("guard.max_hold_ms", "key of a schedule"),
    ]


@pytest.mark.parametrize(
    ("word", "near"), [("LAET", "LATE"), ("max_hold", "max_hold_ms"), ("slient", "silent")]
)
def test_an_unknown_word_is_told_the_nearest(word: str, near: str) -> None:
    with pytest.raises(ScheduleError, match=rf"no word '{word}'; the nearest: .*\b{near}\b"):
        explain.of((word,))


def test_a_word_near_to_none_is_told_how_to_see_all() -> None:
    with pytest.raises(ScheduleError, match="`inphase explain` without a word lists all"):
        explain.of(("xyzzyqqq",))


def test_the_command_prints_a_meaning_and_a_remedy_and_lists_all() -> None:
    def run(*words_: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "inphase", "explain", *words_],
            capture_output=True,
            text=True,
            timeout=BOUND_S,
            check=False,
        )

    said = " ".join(run("why", "is", "my", "sensor", "LATE?").stdout.split())
    assert "due, and not there at the read deadline" in said and "do: `inphase probe" in said
    listed = run().stdout.split()
    for word in (*record_layout.REASONS, "cycle.act_us"):
        assert word in {one.strip(",") for one in listed}
    (late,) = json.loads(run("LATE", "--json").stdout)
    assert late["remedy"] == meanings.STATUSES["LATE"].remedy
    unknown = run("LAET")
    assert (unknown.returncode, unknown.stdout) == (2, "") and "LATE" in unknown.stderr
