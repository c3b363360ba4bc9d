"""Whose fault it was that the cycle thread was late: a decision by what was seen, and why.

A cause is named only if it may have cost half of the lost time at least. The host is named only
where the cycle thread did not run, and a thread above it did not either: so our own faults are
never given to it. Where that is not known, the answer is `not known`.
"""

from typing import NamedTuple

from inphase.runtime.attribution.evidence import TICK_NS, Evidence, PeerEvidence, Thread


class Decision(NamedTuple):
    """One of CAUSES, one of WHYS, and who had the core instead."""

    cause: str
    why: str
    thief: Thread | None = None


_FAULTS = 200
"""page faults of a policy that cost it its time; a call alone has a few"""
_BUSY = 0.05
"""share of a stretch in which some core had nobody, below which the machine is busy"""
_FAULT_NS = 2000
"""that a page fault costs at most, without a disk"""
_USUAL = 0.25
"""share of a core that the cycle thread uses anyway, at most"""
NOT_KNOWN = Decision("not known", "unseen")


def of_thread(seen: Evidence) -> Decision:
    """Of a stretch in which the cycle thread was to go on and did not."""
    counted = seen.counted
    if counted is not None and counted.is_stopped:
        return Decision("other process", "stopped")
    if seen.turns is None:
        return _without_turns(seen)
    half = seen.late_ns / 2
    if (seen.had("ours", "kernel", "other") or 0) >= half:
        return _of_thief(seen)
    if (seen.had("cycle") or 0) >= half:
        return _of_own(seen)
    if (seen.had("idle", "sentinel") or 0) >= half:
        return _of_free_core(seen)
    return NOT_KNOWN


def _of_thief(seen: Evidence) -> Decision:
    """Other threads had the core."""
    thief = seen.thief()
    assert thief is not None
    if thief.who.kind != "ours" and _is_held(seen) and _is_stolen(seen):
        return Decision("host", "stolen")
    # soft interrupts are done in the time of whoever has the core
    if thief.who.kind == "ours" and _is_held(seen) and _is_interrupted(seen):
        return Decision("kernel", "interrupts")
    return _by(thief.who, seen.priority if seen.is_realtime else 0)


def _of_own(seen: Evidence) -> Decision:
    """The cycle thread had the core itself: its own code, or somebody took time within."""
    half, counted = seen.late_ns / 2, seen.counted
    if _is_held(seen):
        if _is_unran(seen.unran_ns, half) and _is_stolen(seen):
            return Decision("host", "stolen")
        return Decision("kernel", "interrupts") if _is_interrupted(seen) else NOT_KNOWN
    # where the sentinel was not due, nothing may have been taken from the core
    is_seen = seen.held_ns is not None or _is_untaken(seen)
    return _of_own_work(seen) if counted is not None and is_seen else NOT_KNOWN


def _of_own_work(seen: Evidence) -> Decision:
    """The cycle thread worked."""
    counted = seen.counted
    faults = (counted.minor or 0) + (counted.major or 0) if counted is not None else 0
    if faults * _FAULT_NS >= seen.late_ns / 2:
        return Decision("ours", "page faults")
    return Decision("ours", "own code")


def _of_free_core(seen: Evidence) -> Decision:
    """Nobody had the core: either nothing ran there, or the cycle thread was not ready."""
    if _is_held(seen):
        return _of_held_core(seen)
    counted = seen.counted
    if seen.held_ns is not None and counted and (counted.major or counted.is_on_disk):
        return Decision("kernel", "disk")
    return NOT_KNOWN


def _of_held_core(seen: Evidence) -> Decision:
    """Nobody who is known could have it, not even a thread above the cycle thread."""
    if _is_stolen(seen):
        return Decision("host", "stolen")
    return Decision("kernel", "interrupts") if _is_interrupted(seen) else NOT_KNOWN


def _without_turns(seen: Evidence) -> Decision:
    """The kernel does not tell who had the core: counters have to do."""
    half, counted = seen.late_ns / 2, seen.counted
    if counted is None or seen.held_ns is None:
        return NOT_KNOWN
    if _is_held(seen):
        # it had the core, or was ready and somebody else had it, who is not known
        was_ready = max(counted.ran_ns or 0, counted.waited_ns or 0) >= half
        return NOT_KNOWN if was_ready else _of_held_core(seen)
    if (counted.waited_ns or 0) >= half:
        return Decision("other process", "preempted")
    if (counted.ran_ns or 0) >= half + (counted.until_ns - counted.from_ns) * _USUAL:
        return _of_own_work(seen)
    return Decision("kernel", "disk") if counted.major or counted.is_on_disk else NOT_KNOWN


def _is_untaken(seen: Evidence) -> bool:
    """True if neither the host nor interrupts took time of the core."""
    counted = seen.counted
    return counted is not None and (
        counted.stolen_ns == 0 and counted.interrupt_ns == 0 and counted.softirq_ns == 0
    )


def _is_unran(unran_ns: int | None, half: float) -> bool:
    """True if a thread was kept from running while it had a core. The kernel adds to a thread's own
    time at a tick, so it may be behind by one."""
    return unran_ns is not None and unran_ns >= half + TICK_NS


def _is_held(seen: Evidence) -> bool:
    """True if a thread above the cycle thread did not run either."""
    return seen.is_sentinel_above and seen.held_ns is not None and seen.held_ns >= seen.late_ns / 2


def _is_stolen(seen: Evidence) -> bool:
    return seen.counted is not None and _may_be(seen.counted.stolen_ns, seen.late_ns)


def _is_interrupted(seen: Evidence) -> bool:
    counted = seen.counted
    if counted is None or counted.interrupt_ns is None or counted.softirq_ns is None:
        return False
    return _may_be(counted.interrupt_ns + counted.softirq_ns, seen.late_ns)


def _may_be(counted_ns: int | None, late_ns: int) -> bool:
    """True if a time that is counted in whole ticks may have cost half of the lost one."""
    return bool(counted_ns) and (counted_ns or 0) + TICK_NS >= late_ns / 2


def of_sample(
    seen: Evidence, of_thread_now: Decision | None, peer: PeerEvidence | None = None
) -> Decision:
    """Of a sample that had not come by the end of a stretch.

    of_thread_now: whose fault it was that the cycle thread was late in the same cycle; None: it was
    in time. peer: the process that was to give the sample.
    """
    if seen.counted is not None and seen.counted.is_stopped:
        return Decision("other process", "stopped")
    if of_thread_now is not None:
        return of_thread_now
    if _is_held(seen):
        return of_thread(seen)
    return (of_peer(peer) if peer is not None else None) or Decision("ours", "device")


def of_emulated(
    seen: Evidence, of_thread_now: Decision | None, emulator: PeerEvidence | None
) -> Decision:
    """Likewise of a sample that an emulator gives through a pseudo-terminal or a socket."""
    found = of_sample(seen, of_thread_now, emulator)
    if found.why != "device" or emulator is None:
        return found
    # what it has written is brought by threads of the kernel, which wait for a core like any other
    is_busy = emulator.own_ns is not None and emulator.idle_ns < emulator.late_ns * _BUSY
    return Decision("not known", "busy") if is_busy else found


def of_command(
    seen: Evidence, of_thread_now: Decision | None, peer: PeerEvidence | None = None
) -> Decision:
    """Likewise of a command. peer: the policy's process."""
    if seen.counted is not None and seen.counted.is_stopped:
        return Decision("other process", "stopped")
    if peer is None:
        return of_thread_now or Decision("ours", "policy")
    found = of_peer(peer)
    if found is not None:
        return found
    half, counted = peer.late_ns / 2, peer.counted
    # the one that holds the GIL may wait for a core itself
    if (peer.own_ns or 0) < half / 2 < peer.threads_ns * 2:
        return Decision("ours", "policy threads")
    if counted is not None and (counted.minor or 0) >= _FAULTS:
        return Decision("ours", "policy faults")
    return Decision("ours", "policy")


def of_peer(peer: PeerEvidence) -> Decision | None:
    """Of a process that was waited for: who kept it from running; None: it ran, or did not want
    to."""
    half, counted = peer.late_ns / 2, peer.counted
    if counted is None or peer.own_ns is None:
        return None
    if counted.is_stopped:
        return Decision("other process", "peer stopped")
    if peer.own_ns >= half:
        return Decision("host", "stolen") if _is_unran(peer.unran_ns, half) else None
    thief = next((turn for turn in peer.turns if turn.who.kind not in ("idle", "sentinel")), None)
    if (counted.waited_ns or 0) < half or thief is None or thief.ns < half / 2:
        return None
    return _by(thief.who, peer.priority)


def _by(who: Thread, priority: int) -> Decision:
    """A thread had the core that another one of this priority was ready for."""
    if who.kind in ("ours", "cycle"):
        return Decision("ours", "own process", who)
    if who.kind == "kernel":
        return Decision("kernel", "kernel thread", who)
    # a thread of lower priority keeps a core only while the kernel works for it, or insists on it
    if who.priority is not None and who.priority < priority:
        return Decision("kernel", "not preemptible", who)
    return Decision("other process", "preempted", who)
