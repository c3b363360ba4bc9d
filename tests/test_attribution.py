"""Whose fault a late cycle was: decided by recorded evidence, and seen by the sentinel itself."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inphase.runtime.attribution import decision, evidence
from inphase.runtime.attribution.evidence import (
    TICK_NS,
    CoreCounted,
    CoreTurn,
    Evidence,
    PeerEvidence,
    Thread,
)
from inphase.runtime.attribution.page import LOOK, LOOKED, PAGE, TURN, WAKE, Rows, SentinelPage
from inphase.runtime.attribution.sentinel import PROGRAM
from peers import until

NATIVE = Path(__file__).resolve().parent.parent / "native" / "src"
COMPILER = shutil.which(os.environ.get("CC", "cc"))
MS = 1_000_000
LATE_NS = 4 * MS
PRIORITY = 80
CYCLE = Thread(10, 11, "cycle", "cycle", None)
IDLE = Thread(0, 0, "idle", "idle", None)
HOG = Thread(50, 50, "hog", "other", 95)
FLOOD = Thread(51, 51, "flood", "other", 0)
WORKER = Thread(52, 52, "worker", "ours", 90)
KSOFTIRQD = Thread(53, 53, "ksoftirqd/1", "kernel", 0)
QUIET = CoreCounted(
    from_ns=0,
    until_ns=8 * MS,
    ran_ns=0,
    waited_ns=0,
    minor=0,
    major=0,
    stolen_ns=0,
    interrupt_ns=0,
    softirq_ns=0,
)
SEEN = Evidence(
    late_ns=LATE_NS,
    held_ns=0,
    is_sentinel_above=True,
    is_realtime=True,
    priority=PRIORITY,
    counted=QUIET,
    unran_ns=0,
)


def by(*turns: tuple[Thread, int]) -> tuple[CoreTurn, ...]:
    return tuple(CoreTurn(who, ns) for who, ns in sorted(turns, key=lambda turn: -turn[1]))


STOLEN = replace(QUIET, stolen_ns=10 * MS)
SOFTIRQ = replace(QUIET, softirq_ns=10 * MS)
HELD = replace(SEEN, held_ns=LATE_NS)
RECORDED = {
    "a hog above": (replace(HELD, turns=by((HOG, LATE_NS))), "other process", "preempted"),
    "a hog beside a busy host": (
        replace(SEEN, turns=by((HOG, LATE_NS)), counted=STOLEN),
        "other process",
        "preempted",
    ),
    "a flood below": (replace(HELD, turns=by((FLOOD, LATE_NS))), "kernel", "not preemptible"),
    "a thread of the kernel": (replace(SEEN, turns=by((KSOFTIRQD, LATE_NS))), "kernel",
                               "kernel thread"),
    "a worker of ours": (replace(SEEN, turns=by((WORKER, LATE_NS))), "ours", "own process"),
    "a worker of ours on a busy host": (
        replace(HELD, turns=by((WORKER, LATE_NS)), counted=STOLEN),
        "ours",
        "own process",
    ),
    "own code": (replace(SEEN, turns=by((CYCLE, LATE_NS))), "ours", "own code"),
    "own code on a busy host": (
        replace(SEEN, turns=by((CYCLE, LATE_NS)), counted=STOLEN),
        "ours",
        "own code",
    ),
    "own code while the sentinel was not due": (
        replace(SEEN, turns=by((CYCLE, LATE_NS)), held_ns=None),
        "ours",
        "own code",
    ),
    "own code while it was not due, on a busy host": (
        replace(SEEN, turns=by((CYCLE, LATE_NS)), held_ns=None, counted=STOLEN),
        "not known",
        "unseen",
    ),
    "own code that held the sentinel, too": (
        replace(HELD, turns=by((CYCLE, LATE_NS)), counted=STOLEN),
        "not known",
        "unseen",
    ),
    "own code that the host did not let run": (
        replace(HELD, turns=by((CYCLE, LATE_NS)), counted=STOLEN, unran_ns=LATE_NS + TICK_NS),
        "host",
        "stolen",
    ),
    "own page faults": (
        replace(SEEN, turns=by((CYCLE, LATE_NS)), counted=replace(QUIET, minor=1000)),
        "ours",
        "page faults",
    ),
    "own code, and some page faults": (
        replace(SEEN, turns=by((CYCLE, LATE_NS)), counted=replace(QUIET, minor=10)),
        "ours",
        "own code",
    ),
    "soft interrupts in the time of ours": (
        replace(HELD, turns=by((WORKER, LATE_NS)), counted=SOFTIRQ),
        "kernel",
        "interrupts",
    ),
    "own page faults from a disk": (
        replace(SEEN, turns=by((IDLE, LATE_NS)), counted=replace(QUIET, major=1)),
        "kernel",
        "disk",
    ),
    "stolen": (replace(HELD, turns=by((IDLE, LATE_NS)), counted=STOLEN), "host", "stolen"),
    "stolen under a flood": (
        replace(HELD, turns=by((FLOOD, LATE_NS)), counted=STOLEN),
        "host",
        "stolen",
    ),
    "interrupts": (replace(HELD, turns=by((IDLE, LATE_NS)), counted=SOFTIRQ), "kernel",
                   "interrupts"),
    "stopped": (
        replace(SEEN, turns=by((IDLE, LATE_NS)), counted=replace(QUIET, is_stopped=True)),
        "other process",
        "stopped",
    ),
    "a free core": (replace(SEEN, turns=by((IDLE, LATE_NS))), "not known", "unseen"),
    "a free core, and the sentinel late": (
        replace(HELD, turns=by((IDLE, LATE_NS))),
        "not known",
        "unseen",
    ),
    "a free core on a busy host": (
        replace(SEEN, turns=by((IDLE, LATE_NS)), counted=STOLEN),
        "not known",
        "unseen",
    ),
    "without rights": (
        replace(HELD, turns=by((IDLE, LATE_NS)), counted=STOLEN, is_sentinel_above=False),
        "not known",
        "unseen",
    ),
    "many who had a little": (
        replace(SEEN, turns=by((CYCLE, LATE_NS // 3), (IDLE, LATE_NS // 3), (HOG, LATE_NS // 3))),
        "not known",
        "unseen",
    ),
    "counters alone: stolen": (replace(HELD, counted=STOLEN), "host", "stolen"),
    "counters alone: it ran": (
        replace(HELD, counted=replace(STOLEN, ran_ns=LATE_NS)),
        "not known",
        "unseen",
    ),
    "counters alone: it waited, and the sentinel too": (
        replace(HELD, counted=replace(SOFTIRQ, waited_ns=LATE_NS)),
        "not known",
        "unseen",
    ),
    "counters alone: it waited": (
        replace(SEEN, counted=replace(QUIET, waited_ns=LATE_NS)),
        "other process",
        "preempted",
    ),
    "nothing": (replace(SEEN, counted=None), "not known", "unseen"),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "cause", "why"), RECORDED.values(), ids=RECORDED)
def test_evidence_has_a_cause(seen: Evidence, cause: str, why: str) -> None:
    found = decision.of_thread(seen)
    assert (found.cause, found.why) == (cause, why)


def test_the_thief_is_the_one_that_had_the_core_longest() -> None:
    seen = replace(SEEN, turns=by((HOG, LATE_NS // 2), (FLOOD, LATE_NS // 4), (IDLE, LATE_NS // 4)))
    assert decision.of_thread(seen).thief == HOG


def test_a_missing_sample_has_the_cause_of_the_threads_own_lateness() -> None:
    of_thread = decision.Decision("host", "stolen")
    assert decision.of_sample(SEEN, of_thread) == of_thread
    assert decision.of_sample(SEEN, None) == decision.Decision("ours", "device")
    held = replace(HELD, turns=by((HOG, LATE_NS)))
    assert decision.of_sample(held, None) == decision.Decision("other process", "preempted", HOG)


PEER = PeerEvidence(late_ns=LATE_NS, own_ns=0, priority=60, counted=QUIET, idle_ns=LATE_NS)
WAITED = replace(PEER, counted=replace(QUIET, waited_ns=LATE_NS))
COMMANDS = {
    "it computed": (replace(PEER, own_ns=LATE_NS), "ours", "policy"),
    "it computed on a busy host": (
        replace(PEER, own_ns=LATE_NS, unran_ns=LATE_NS, counted=STOLEN),
        "ours",
        "policy",
    ),
    "the host did not let it compute": (
        replace(PEER, own_ns=LATE_NS, unran_ns=LATE_NS + TICK_NS),
        "host",
        "stolen",
    ),
    "it slept": (PEER, "ours", "policy"),
    "it waited for the GIL": (replace(PEER, threads_ns=LATE_NS), "ours", "policy threads"),
    "it touched new memory": (
        replace(PEER, own_ns=LATE_NS, counted=replace(QUIET, minor=5000)),
        "ours",
        "policy faults",
    ),
    "it was stopped": (
        replace(PEER, counted=replace(QUIET, is_stopped=True)),
        "other process",
        "peer stopped",
    ),
    "a hog had its core": (replace(WAITED, turns=by((HOG, LATE_NS))), "other process", "preempted"),
    "the kernel had its core": (
        replace(WAITED, turns=by((FLOOD, LATE_NS))),
        "kernel",
        "not preemptible",
    ),
    "a process of ours had its core": (
        replace(WAITED, turns=by((WORKER, LATE_NS))),
        "ours",
        "own process",
    ),
    "nobody looked": (replace(PEER, own_ns=None, counted=None), "ours", "policy"),
}


@pytest.mark.parametrize(("peer", "cause", "why"), COMMANDS.values(), ids=COMMANDS)
def test_a_missing_command_has_a_cause(peer: PeerEvidence, cause: str, why: str) -> None:
    found = decision.of_command(SEEN, None, peer)
    assert (found.cause, found.why) == (cause, why)


def test_an_emulated_device_on_a_machine_without_a_free_core_is_not_known() -> None:
    device = decision.Decision("ours", "device")
    assert decision.of_emulated(SEEN, None, PEER) == device
    busy = replace(PEER, idle_ns=0)
    assert decision.of_emulated(SEEN, None, busy) == decision.Decision("not known", "busy")
    assert decision.of_emulated(SEEN, None, None) == device


# ---- rows --------------------------------------------------------------------------------------


def test_the_core_is_counted_to_who_had_it_within_the_stretch() -> None:
    turns = np.array([(0, 1, 1, 0, 0), (40, 2, 3, 0, 0), (90, 0, 0, 0, 0)], TURN)
    assert evidence.thread_ns(turns, 20, 100) == {(1, 1): 20, (2, 3): 50, (0, 0): 10}
    assert evidence.thread_ns(turns[1:], 20, 100) == {}  # nobody knows who had it before


def test_a_thread_was_on_the_core_that_it_had_last() -> None:
    turns = {
        0: np.array([(0, 1, 1, 0, 0), (41, 3, 3, 0, 0)], TURN),
        1: np.array([(5, 9, 9, 1, 0), (40, 1, 1, 1, 0)], TURN),
    }
    assert [evidence.core_of(turns, 1, at, at + 10) for at in (20, 45)] == [0, 1]
    assert evidence.core_of(turns, 9, 0, 10) == 1
    assert evidence.core_of(turns, 7, 0, 100) is None


def test_the_sentinel_held_a_stretch_up_as_long_as_it_was_due_in_it() -> None:
    wakes = np.array([(10, 11), (110, 170), (210, 211)], WAKE)
    assert evidence.held_ns(wakes, 100, 160) == 50
    assert evidence.held_ns(wakes, 100, 180) == 60
    assert evidence.held_ns(wakes, 20, 60) is None


def test_counters_are_those_from_the_look_before_to_the_look_behind() -> None:
    looks = np.zeros(4, LOOK)
    looks["began_ns"] = looks["ended_ns"] = np.arange(1, 5) * TICK_NS
    looks["core_ns"] = looks["began_ns"]
    looks["ran_ns"], looks["stolen_ns"] = [1, 2, 4, 8], [0, 0, 3, 5]
    found = evidence.counted(looks, 2 * TICK_NS, 2 * TICK_NS + 1)
    assert found is not None
    assert (found.ran_ns, found.stolen_ns) == (2, 5)  # a core's time is added at the next tick
    assert evidence.counted(looks, 0, TICK_NS) is None
    rows = Rows(np.empty(0, WAKE), [looks], {})
    assert evidence.is_known(rows, 3 * TICK_NS) and not evidence.is_known(rows, 4 * TICK_NS)


# ---- the sentinel ------------------------------------------------------------------------------


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_the_page_lies_as_the_header_says(tmp_path: Path) -> None:
    assert COMPILER is not None
    rows = {"wake": WAKE, "look": LOOK, "turn": TURN, "page": PAGE}
    lines = [
        f'printf("%zu %zu\\n", sizeof(struct sentinel_{name}), '
        f"offsetof(struct sentinel_{name}, {field}));"
        for name, row in rows.items()
        for field in row.names or ()
    ]
    source = tmp_path / "page.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{NATIVE / "sentinel_page.h"}"\n'
        f"int main(void) {{ {' '.join(lines)} return 0; }}\n"
    )
    subprocess.run([COMPILER, source, "-o", tmp_path / "page"], check=True)
    told = subprocess.run([tmp_path / "page"], check=True, capture_output=True, text=True).stdout
    found = [tuple(map(int, line.split())) for line in told.splitlines()]
    assert found == [
        (row.itemsize, (row.fields or {})[field][1])
        for row in rows.values()
        for field in row.names or ()
    ]
    text = re.sub(r"/\*.*?\*/", "", (NATIVE / "sentinel_page.h").read_text(), flags=re.DOTALL)
    fields = re.findall(r"(\w+)(?:\[\w+\])*[,;]", text)
    assert len(fields) == len(found)


@pytest.mark.real
def test_the_sentinel_counts_this_thread_and_wakes_on_the_grid() -> None:
    page = SentinelPage()
    child = subprocess.Popen([PROGRAM, str(page.fd)], pass_fds=[page.fd])
    try:
        origin_ns, period_ns, after_ns = time.monotonic_ns(), 2 * MS, MS // 10
        page.begin(
            period_ns=period_ns,
            origin_ns=origin_ns,
            after_ns=[after_ns, -1, -1],
            priority=0,
            cpu=-1,
            process=[os.getpid()] + [0] * (LOOKED - 1),
            thread=[os.getpid()] + [0] * (LOOKED - 1),
        )
        until(lambda: len(page.rows().wakes) > 10 and len(page.rows().looks[0]) > 10)
        wakes, (looks, *others), _ = page.rows()
        assert not any(map(len, others))
        assert not ((wakes["point_ns"] - origin_ns - after_ns) % period_ns).any()
        assert (np.diff(wakes["point_ns"]) > 0).all()
        assert (wakes["woke_ns"] >= wakes["point_ns"]).all()
        assert (looks["began_ns"] <= looks["ended_ns"]).all()
        assert (np.diff(looks["ran_ns"]) >= 0).all() and looks["ran_ns"][-1] > 0
        assert (looks["minor"] > 0).all()
    finally:
        child.kill()
        child.wait()
        page.close()
