"""A weak memory model: every execution of two threads that these rules allow, and the two threads
read out of the C sources.

- Each location has one order of its stores, and no thread sees a location go backwards.
- A store becomes visible to the reader at any time after it was issued, in any order with the
  others, except that a release store waits until all stores before it are visible, and that no
  store behind a release fence is visible before all stores in front of the fence.
- A load may be satisfied before an earlier load, except that nothing after an acquire load, or
  behind an acquire fence, is satisfied before it, or before what is in front of the fence. (Nor is
  one satisfied before an earlier load of its own location.)
- What one reader sees, all can see: one memory, as on ARMv8. (POWER differs; it is not modelled.)

`steps_of` reads the atomic operations of a C function in the order of its text: a memory order that
changes there changes the model. An operation on `slot->payload[i]` or `slot->word[i]` stands for
one per word, and so does a plain copy of the payload.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

SOURCES = Path(__file__).resolve().parent.parent / "native" / "src"
WORDS = ("payload", "word", "plain")  # locations of which a slot has several
_RELEASES = ("release", "seq_cst")


class Step(NamedTuple):
    """An operation of a thread. `value` is the C text of what is stored."""

    kind: Literal["store", "load", "fence"]
    location: str
    order: str
    value: str = ""

    @property
    def is_strong(self) -> bool:
        """Does it order anything?"""
        return self.order != "relaxed"

    def weaker(self) -> "Step":
        """The same without its order."""
        return self._replace(order="relaxed")


Thread = tuple[Step, ...]

OPERATION = re.compile(
    r"atomic_store_explicit\(&(?P<stored>[^,]+),(?P<value>.+?),\s*memory_order_(?P<release>\w+)\)"
    r"|atomic_(?:fetch_add|exchange)_explicit\(&(?P<added>[^,]+),[^;]+?memory_order_(?P<adds>\w+)\)"
    r"|atomic_load_explicit\(&?(?P<loaded>[^,]+),\s*memory_order_(?P<acquire>\w+)\)"
    r"|atomic_thread_fence\(memory_order_(?P<fence>\w+)\)"
    r"|__atomic_store_n\(&(?P<put>[^,]+),(?P<given>.+?),\s*__ATOMIC_(?P<old_release>\w+)\)"
    r"|__atomic_load_n\(&(?P<got>[^,]+),\s*__ATOMIC_(?P<old_acquire>\w+)\)"
    r"|put_[iu]\d+\(&(?P<relaxed_store>[^,]+),(?P<relaxed_value>.+?)\);"
    r"|load_[iu]\d+\(&(?P<relaxed_load>[^)]+)\)"
    r"|memcpy\((?P<plain_store>slot->payload),"
    r"|memcpy\([^;]+?(?P<plain>slot->payload)(?: \+|,)",
    re.DOTALL,
)


def body_of(file: str, function: str) -> str:
    """The text of a C function."""
    text = (SOURCES / file).read_text()
    found = re.search(
        rf"^[^\n#/]*\b{function}\([^;{{]*\)\n\{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"{file} has no function {function}"
    return found[1]


def _location(text: str) -> str:
    """The last member of an lvalue: that of `slot->payload[at + i]` is `payload`."""
    return re.sub(r"\[.*\]", "", text.strip()).split("->")[-1].split(".")[-1]


def steps_of(file: str, function: str) -> Thread:
    """The operations of a C function, in the order of its text."""
    found: list[Step] = []
    for match in OPERATION.finditer(body_of(file, function)):
        part = match.groupdict()
        stored = part["stored"] or part["put"] or part["relaxed_store"] or part["added"]
        loaded = part["loaded"] or part["got"] or part["relaxed_load"]
        release = part["release"] or part["adds"] or (part["old_release"] or "relaxed").lower()
        acquire = part["acquire"] or (part["old_acquire"] or "relaxed").lower()
        value = part["value"] or part["given"] or part["relaxed_value"] or ""
        if stored:
            # of what also acquires, only what it gives away is looked at
            release = release.replace("acq_rel", "release")
            found.append(Step("store", _location(stored), release, value.strip()))
        elif loaded:
            found.append(Step("load", _location(loaded), acquire))
        elif part["fence"]:
            found.append(Step("fence", "", part["fence"]))
        elif part["plain_store"]:
            found.append(Step("store", "plain", "relaxed", "payload"))
        else:
            found.append(Step("load", "plain", "relaxed"))
    return tuple(found)


def named(thread: Thread, *locations: str) -> Thread:
    """Only the steps of these locations, and the fences."""
    return tuple(step for step in thread if step.kind == "fence" or step.location in locations)


def widened(thread: Thread, words: int) -> list[tuple[Step, str]]:
    """Each step with the place that it is at: those of a slot's words once per word."""
    return [
        (step, f"{step.location}{i}" if step.location in WORDS else step.location)
        for step in thread
        for i in range(words if step.location in WORDS else 1)
    ]


@dataclass(frozen=True)
class Placed:
    """A step in an execution; `value`: what it stores."""

    kind: str
    place: str
    order: str
    value: int = 0


def placed(thread: list[tuple[Step, str]], values: list[int]) -> tuple[Placed, ...]:
    """Steps with what they store."""
    return tuple(
        Placed(step.kind, place, step.order, value)
        for (step, place), value in zip(thread, values, strict=True)
    )


class State(NamedTuple):
    """Which stores are visible, and what each load gave (-1: not satisfied yet)."""

    visible: frozenset[int]
    memory: tuple[tuple[str, int], ...]
    loaded: tuple[int, ...]


def _may_become_visible(stores: tuple[Placed, ...], visible: frozenset[int], at: int) -> bool:
    """Is store `at` free to become visible next?"""
    hidden = [i for i in range(at) if stores[i].kind == "store" and i not in visible]
    if stores[at].order in _RELEASES:
        return not hidden
    fences = [i for i in range(at) if stores[i].kind == "fence" and stores[i].order in _RELEASES]
    return not any(
        stores[i].place == stores[at].place or any(i < fence for fence in fences) for i in hidden
    )


def _may_be_satisfied(loads: tuple[Placed, ...], loaded: tuple[int, ...], at: int) -> bool:
    """Is load `at` free to take its value next?"""
    left = [i for i in range(at) if loads[i].kind == "load" and loaded[i] < 0]
    fences = [i for i in range(at) if loads[i].kind == "fence" and loads[i].order == "acquire"]
    return not any(
        loads[i].order in ("acquire", "seq_cst")
        or loads[i].place == loads[at].place
        or any(i < fence for fence in fences)
        for i in left
    )


def _next(stores: tuple[Placed, ...], loads: tuple[Placed, ...], state: State) -> Iterator[State]:
    """Every state that one step leads to."""
    for i, store in enumerate(stores):
        if (
            store.kind == "store"
            and i not in state.visible
            and _may_become_visible(stores, state.visible, i)
        ):
            memory = dict(state.memory) | {store.place: store.value}
            yield State(state.visible | {i}, tuple(sorted(memory.items())), state.loaded)
    for i, load in enumerate(loads):
        if (
            load.kind == "load"
            and state.loaded[i] < 0
            and _may_be_satisfied(loads, state.loaded, i)
        ):
            loaded = list(state.loaded)
            loaded[i] = dict(state.memory).get(load.place, 0)
            yield state._replace(loaded=tuple(loaded))


def readings(stores: tuple[Placed, ...], loads: tuple[Placed, ...]) -> set[tuple[int, ...]]:
    """What the loads can give together, in the reader's order, over all executions. Memory is 0 at
    first."""
    first = State(frozenset(), (), tuple(-1 if load.kind == "load" else 0 for load in loads))
    seen, left, found = {first}, [first], set()
    while left:
        state = left.pop()
        if -1 not in state.loaded:
            found.add(
                tuple(v for v, load in zip(state.loaded, loads, strict=True) if load.kind == "load")
            )
            continue
        for after in _next(stores, loads, state):
            if after not in seen:
                seen.add(after)
                left.append(after)
    return found
