"""What processes share, under a weak memory model, with the memory orders of the C sources.

x86 hides what other machines show: stores that become visible out of order, loads that are
satisfied early. `memory_model` explores every execution that its rules allow; the threads are read
out of the sources, so that a weaker order there fails here, on any machine.

The payload's words of write `n` are `n + 1` each, so that a mix of two writes is seen as one.
"""

from typing import NamedTuple

import pytest

from memory_model import WORDS, Placed, Step, Thread, named, placed, readings, steps_of, widened


class Protocol(NamedTuple):
    """What the writer does once per write, and what the reader does once."""

    writer: Thread
    reader: Thread


def stores(file: str, function: str, *locations: str) -> Thread:
    """The stores to these locations, and the fences between them."""
    found = named(steps_of(file, function), *locations)
    return tuple(step for step in found if step.kind != "load")


PLAIN = (Step("store", "plain", "relaxed", "payload"),)  # in place, by whoever has claimed the slot
READ_PLAIN = (Step("load", "plain", "relaxed"),)
SLOT = steps_of("store.c", "slot_write")
SLOT_READ = steps_of("store.c", "slot_read")
PLACES = ("head", "sequence", "payload", "word", "plain")
WORKER = (
    *stores("worker.c", "inphase_worker_claim", *PLACES),
    *PLAIN,
    *stores("worker.c", "inphase_worker_post", *PLACES),
)
IN_PLACE = (
    *named(steps_of("reader.c", "inphase_reader_next"), "head"),
    *READ_PLAIN,
    *steps_of("reader.c", "inphase_reader_intact"),
)
MAIL = stores("mailbox.c", "mailbox_put", *PLACES)
HEAD, VALUES = (i for i, step in enumerate(MAIL) if step.location == "payload")
MAIL_READ = (*steps_of("mailbox.c", "mailbox_head"), *SLOT_READ)
AS_PLAIN = tuple(step._replace(location=step.location.replace("payload", "plain")) for step in SLOT)
LARGE, LARGE_READ = steps_of("store.c", "large_write"), steps_of("store.c", "large_read")
PROTOCOLS = {
    "a ring": Protocol(SLOT, SLOT_READ),
    "a ring of large samples": Protocol(LARGE, LARGE_READ),
    "large samples, in place": Protocol(
        (*LARGE, *stores("cycle.c", "stage_latch", "head")), IN_PLACE
    ),
    "frames": Protocol(
        (*SLOT, *stores("cycle.c", "stage_latch", "head")),
        (*named(steps_of("reader.c", "inphase_reader_next"), "head"), *SLOT_READ),
    ),
    "the mailbox, a mail's head": Protocol((*MAIL[:VALUES], *MAIL[VALUES + 1 :]), MAIL_READ),
    "the mailbox, its values": Protocol((*MAIL[:HEAD], *MAIL[HEAD + 1 :]), MAIL_READ),
    "a worker's samples": Protocol(
        WORKER,
        (
            *named(steps_of("post.c", "worker_receive"), "head"),
            *named(steps_of("post.c", "read_posted"), *PLACES),
        ),
    ),
    "the core's samples, in place": Protocol(
        (*AS_PLAIN, *stores("cycle.c", "stage_latch", "head")), IN_PLACE
    ),
    "a worker's samples, in place": Protocol(
        tuple(step for step in WORKER if step.location != "word"), IN_PLACE
    ),
    "orders": Protocol(
        (*SLOT, *stores("post.c", "worker_write", "orders")),
        (*named(steps_of("worker.c", "take_order"), "orders"), *SLOT_READ),
    ),
    "the guard's page": Protocol(
        (*SLOT, *stores("guard.c", "guard_leave", "head", "moving")),
        (
            *steps_of("guard_process.c", "moving"),
            *named(steps_of("guard_page.c", "guard_page_record"), "head"),
            *SLOT_READ,
        ),
    ),
}
HEADS = ("head", "orders")
WITHOUT_HEAD = ("a ring", "a ring of large samples")


def value_of(step: Step, number: int) -> int:
    """What a store of write `number` stores."""
    if step.kind != "store":
        return 0
    if step.location == "sequence":
        odd, even = "2 * number + 1", "2 * number + 2"
        assert step.value in (odd, even), f"a sequence becomes {step.value}"
        return 2 * number + (1 if step.value == odd else 2)
    return 1 if step.location == "moving" else number + 1


def outcomes(protocol: Protocol, words: int, writes: int) -> tuple[list[str], set[tuple[int, ...]]]:
    """The places that the reader's loads are of, and what they can give together."""
    given: tuple[Placed, ...] = ()
    for number in range(writes):
        steps = widened(protocol.writer, words)
        given += placed(steps, [value_of(step, number) for step, _ in steps])
    steps = widened(protocol.reader, words)
    loads = placed(steps, [0] * len(steps))
    return [load.place for load in loads if load.kind == "load"], readings(given, loads)


def is_wrong(places: list[str], loaded: tuple[int, ...], writes: int) -> bool:
    """Is a write accepted that is not whole, or a published one not found?"""
    at = dict(zip(places, loaded, strict=True))
    heads = [at[place] for place in HEADS if place in at]
    looks = [value for place, value in zip(places, loaded, strict=True) if place == "sequence"]
    words = {at[place] for place in places if place.rstrip("0123456789") in WORDS}
    if at.get("moving") and heads == [0]:
        return True
    if heads == [0]:
        return False

    # what was published is there, or written over: a number that is still to come would be given up
    if heads and looks and looks[0] < 2 * heads[0]:
        return True
    numbers = [heads[0] - 1] if heads else range(writes)
    return any(
        all(look == 2 * number + 2 for look in looks) and words != {number + 1}
        for number in numbers
    )


def wrong(protocol: Protocol, words: int = 2, writes: int = 2) -> set[tuple[int, ...]]:
    """The readings that should not be."""
    places, found = outcomes(protocol, words, writes)
    return {loaded for loaded in found if is_wrong(places, loaded, writes)}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(("words", "writes"), [(1, 2), (2, 2), (1, 3)])
def test_what_is_accepted_is_whole_and_what_is_published_is_there(
    name: str, words: int, writes: int
) -> None:
    assert wrong(PROTOCOLS[name], words, writes) == set()


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("number", [0, 1])
def test_each_write_can_be_read(name: str, number: int) -> None:
    places, found = outcomes(PROTOCOLS[name], 2, 2)
    whole = {"sequence": 2 * number + 2, "moving": 1}
    assert tuple(whole.get(place, number + 1) for place in places) in found


def changes() -> dict[str, tuple[bool, Protocol]]:
    """Every protocol with one step weaker, or without the mark or the look that says that a slot
    was written meanwhile; and whether that may pass, as another step has the same order."""
    found = {}
    for name, protocol in PROTOCOLS.items():
        for side, thread in zip(("writer", "reader"), protocol, strict=True):
            looks = [i for i, step in enumerate(thread) if step.location == "sequence"]
            for i, step in enumerate(thread):
                if step.is_strong:
                    weaker = (*thread[:i], step.weaker(), *thread[i + 1 :])
                    # a head orders what the sequence or the fence before it does; a fence what the
                    # stamps do
                    is_behind = step.kind == "fence" and PLAIN[0] in thread[:i]
                    is_doubled = step.location in ("sequence", "word") or is_behind
                    spare = name not in WITHOUT_HEAD and is_doubled
                    what = f"{name}: {step.kind} {step.location or step.order} relaxed, {side} {i}"
                    found[what] = spare, protocol._replace(**{side: weaker})
            gone = looks[0] if side == "writer" else looks[-1]
            others = thread[:gone] + thread[gone + 1 :]
            found[f"{name}: {side} {gone} gone"] = False, protocol._replace(**{side: others})
    return found


CHANGES = changes()


@pytest.mark.parametrize("change", CHANGES)
def test_a_weaker_protocol_is_caught(change: str) -> None:
    spare, changed = CHANGES[change]
    assert bool(wrong(changed)) != spare


# ---- control words: whoever sees one sees all that was written before it ------------------------


class Word(NamedTuple):
    """A control word: where it is written, and where it is read."""

    location: str
    written: tuple[str, str]
    read: tuple[str, str]


CONTROL = {
    "a store's mark": Word("magic", ("store.c", "inphase_segment_publish"), ("post.c", "post_of")),
    "a worker's mark": Word("magic", ("worker.c", "inphase_worker_make"), ("post.c", "post_of")),
    "the state": Word("state", ("state.c", "state_set"), ("worker.c", "inphase_worker_start_ns")),
    "a worker's state": Word(
        "state", ("worker.c", "inphase_worker_state"), ("device.c", "follow_worker")
    ),
    "what is wanted": Word("wanted", ("core.c", "want"), ("device.c", "stage_devices")),
    "what is in use": Word("use", ("device.c", "tell_use"), ("core.c", "use_of")),
    "enabled": Word("enabled", ("state.c", "inphase_core_enable"), ("act.c", "act_one")),
    "guarded": Word("guarded", ("state.c", "inphase_core_guarded"), ("state.c", "is_guarded")),
    "arm": Word(
        "arm_requests", ("state.c", "inphase_core_arm_after"), ("state.c", "state_take_requests")
    ),
    "the end": Word("ended", ("cycle.c", "cycle_main"), ("core.c", "inphase_core_join")),
}


def flag(location: str, place: tuple[str, str], kind: str) -> Step:
    """The last step of a kind at a location."""
    return [s for s in steps_of(*place) if s.location == location and s.kind == kind][-1]


def seen_too_early(word: Word) -> bool:
    """Can the word be seen, and not what was written before it?"""
    data = "everything before"
    writer = (Step("store", data, "relaxed"), flag(word.location, word.written, "store"))
    reader = (flag(word.location, word.read, "load"), Step("load", data, "relaxed"))
    given = placed([(step, step.location) for step in writer], [1, 1])
    loads = placed([(step, step.location) for step in reader], [0, 0])
    found = readings(given, loads)
    assert (1, 1) in found
    return (1, 0) in found


@pytest.mark.parametrize("name", CONTROL)
def test_who_sees_a_control_word_sees_what_was_written_before_it(name: str) -> None:
    assert not seen_too_early(CONTROL[name])


def test_the_start_is_known_with_the_state_that_says_so() -> None:
    """A worker's start_ns is 0 or the start, never of a core that has not begun."""
    begin = stores("cycle.c", "cycle_begin", "start_ns")[:1]
    writer = (*begin, flag("state", ("state.c", "state_set"), "store"))
    reader = named(steps_of("worker.c", "inphase_worker_start_ns"), "state", "start_ns")
    given = placed([(step, step.location) for step in writer], [1, 1])
    loads = placed([(step, step.location) for step in reader], [0, 0])
    assert readings(given, loads) == {(0, 0), (0, 1), (1, 1)}
