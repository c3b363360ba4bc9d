"""The states of a robot: every transition of the page, and that there is no other."""

import itertools
import re
from pathlib import Path

from inphase import wire
from inphase._core import lib

PAGE = Path(__file__).resolve().parent.parent / "middleware" / "STATES.md"


def transitions_of_the_page() -> set[tuple[str, str]]:
    """(from, to) of the page's table."""
    states = "|".join(wire.STATES)
    return set(re.findall(rf"^\| ({states}) \| ({states}) \| ", PAGE.read_text(), re.MULTILINE))


def test_the_page_has_the_transitions_that_the_core_has_and_no_other() -> None:
    told = transitions_of_the_page()
    assert len(told) > 10
    for (one, name), (two, other) in itertools.product(enumerate(wire.STATES), repeat=2):
        assert bool(lib.inphase_state_may(one, two)) == ((name, other) in told), (name, other)


def test_a_state_that_does_not_exist_leads_nowhere() -> None:
    past = lib.INPHASE_STATES
    for state in range(past):
        assert not lib.inphase_state_may(state, past)
        assert not lib.inphase_state_may(past, state)


def test_states_have_the_names_that_the_header_gives_them() -> None:
    assert len(wire.STATES) == lib.INPHASE_STATES
    for number, name in enumerate(wire.STATES):
        assert getattr(lib, f"INPHASE_STATE_{name.upper()}") == number
