"""The sequence lock's protocol, checked exhaustively under a weak memory model.

x86 hides what other machines show: stores that become visible out of order, loads that are
satisfied early. The model runs `slot_write` and `slot_read` of `native/src/store.c` with their
memory orders and explores every execution that these rules allow:

- Each location has one order of its stores, and no thread sees a location go backwards.
- A store becomes visible to the reader at any time after it was issued, in any order with the
  others, except that a release store waits until all stores before it are visible.
- A load may be satisfied before an earlier load, except that nothing after an acquire load is
  satisfied before it. (Nor is one satisfied before an earlier load of its own location.)
- What one reader sees, all can see: one memory, as on ARMv8. (POWER differs; it is not modelled.)

The payload's words of write `n` are `n + 1` each, so that a mix of two writes is seen as one.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

SEQUENCE = 0  # location of the sequence; the words are 1, 2, ...


class Store(NamedTuple):
    """One store of the writer."""

    location: int
    value: int
    release: bool


class Load(NamedTuple):
    """One load of the reader."""

    location: int
    acquire: bool


class Protocol(NamedTuple):
    """Which memory orders are used; the defaults are those of the C code."""

    release_words: bool = True
    release_end: bool = True
    acquire_first: bool = True
    acquire_words: bool = True
    second_look: bool = True
    odd_mark: bool = True


def writer(protocol: Protocol, words: int, writes: int) -> tuple[Store, ...]:
    """The stores of `slot_write`, for write 0, 1, ... in turn."""
    stores: list[Store] = []
    for number in range(writes):
        if protocol.odd_mark:
            stores.append(Store(SEQUENCE, 2 * number + 1, False))
        stores += [Store(1 + i, number + 1, protocol.release_words) for i in range(words)]
        stores.append(Store(SEQUENCE, 2 * number + 2, protocol.release_end))
    return tuple(stores)


def reader(protocol: Protocol, words: int) -> tuple[Load, ...]:
    """The loads of `slot_read`."""
    loads = [Load(SEQUENCE, protocol.acquire_first)]
    loads += [Load(1 + i, protocol.acquire_words) for i in range(words)]
    if protocol.second_look:
        loads.append(Load(SEQUENCE, False))
    return tuple(loads)


class State(NamedTuple):
    """Which stores are visible, and what each load gave (-1: not satisfied yet)."""

    visible: frozenset[int]
    memory: tuple[int, ...]
    loaded: tuple[int, ...]


def may_become_visible(stores: tuple[Store, ...], visible: frozenset[int], at: int) -> bool:
    """Is store `at` free to become visible next?"""
    before = [i for i in range(at) if i not in visible]
    if stores[at].release:
        return not before
    return all(stores[i].location != stores[at].location for i in before)


def may_be_satisfied(loads: tuple[Load, ...], loaded: tuple[int, ...], at: int) -> bool:
    """Is load `at` free to take its value next?"""
    before = [i for i in range(at) if loaded[i] < 0]
    return not any(loads[i].acquire or loads[i].location == loads[at].location for i in before)


def steps(stores: tuple[Store, ...], loads: tuple[Load, ...], state: State) -> Iterator[State]:
    """Every state that one step leads to."""
    for i, store in enumerate(stores):
        if i not in state.visible and may_become_visible(stores, state.visible, i):
            memory = list(state.memory)
            memory[store.location] = store.value
            yield State(state.visible | {i}, tuple(memory), state.loaded)
    for i, load in enumerate(loads):
        if state.loaded[i] < 0 and may_be_satisfied(loads, state.loaded, i):
            loaded = list(state.loaded)
            loaded[i] = state.memory[load.location]
            yield state._replace(loaded=tuple(loaded))


def readings(protocol: Protocol, words: int, writes: int) -> set[tuple[int, ...]]:
    """What the reader's loads can give together, over all executions."""
    stores, loads = writer(protocol, words, writes), reader(protocol, words)
    first = State(frozenset(), (0,) * (words + 1), (-1,) * len(loads))
    seen, left, found = {first}, [first], set()
    while left:
        state = left.pop()
        if -1 not in state.loaded:
            found.add(state.loaded)
            continue
        for after in steps(stores, loads, state):
            if after not in seen:
                seen.add(after)
                left.append(after)
    return found


def wrong(protocol: Protocol, words: int, writes: int) -> set[tuple[int, ...]]:
    """The readings that are accepted for a number and are not that write's words."""
    bad = set()
    for loaded in readings(protocol, words, writes):
        for number in range(writes):
            accepted = loaded[0] == 2 * number + 2
            if protocol.second_look:
                accepted = accepted and loaded[-1] == 2 * number + 2
            if accepted and set(loaded[1 : 1 + words]) != {number + 1}:
                bad.add(loaded)
    return bad


@pytest.mark.parametrize(("words", "writes"), [(1, 2), (2, 2), (3, 2), (2, 3)])
def test_what_is_accepted_is_whole_and_of_its_number(words: int, writes: int) -> None:
    assert wrong(Protocol(), words, writes) == set()


@pytest.mark.parametrize("number", [0, 1])
def test_each_write_can_be_read(number: int) -> None:
    even = 2 * number + 2
    assert (even, number + 1, number + 1, even) in readings(Protocol(), 2, 2)


@pytest.mark.parametrize(
    "weaker",
    [
        Protocol(release_words=False),
        Protocol(release_end=False),
        Protocol(acquire_first=False),
        Protocol(acquire_words=False),
        Protocol(second_look=False),
        Protocol(odd_mark=False),
    ],
    ids=lambda weaker: next(name for name, kept in weaker._asdict().items() if not kept),
)
def test_a_weaker_protocol_is_caught(weaker: Protocol) -> None:
    assert wrong(weaker, 2, 2)
