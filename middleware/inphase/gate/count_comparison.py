"""Counts against a baseline: what has grown, where the two may be compared at all."""

from typing import NamedTuple

from inphase.gate.counts import CycleCounts

LIMIT = 0.02
"""the share by which instructions and copied bytes may grow"""
_SHARES = ("instructions", "own", "copied")
_WHOLE = {"calls": "system calls", "allocations": "allocations"}
_WORDS = {
    "instructions": "instructions",
    "own": "instructions of the C core",
    "copied": "copied bytes",
    **_WHOLE,
    "faults": "page faults",
}
# a policy in Python may ask for memory in some cycles and not in others; the core never does
_MOST_MORE = {"cycle": 1e-6}
_MORE = 0.5
_FAULTS_MORE = 0.1  # the kernel may take a page of an ordinary process
_FACTS = ("processor", "libc", "python")


class CountPair(NamedTuple):
    """One number of both, per cycle."""

    part: str
    kind: str
    before: float
    now: float
    has_grown: bool

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.part}: {_WORDS[self.kind]}"

    @property
    def change(self) -> str:
        """As a share, for a person; empty where there was none before."""
        return f"{self.now / self.before - 1:+.1%}" if self.before else ""


def compare(before: CycleCounts, now: CycleCounts) -> tuple[list[CountPair], list[str]]:
    """The pairs that may be compared, and sentences on the others."""
    differs = [key for key in _FACTS if before.made_by[key] != now.made_by[key]]
    notes = []
    if differs:
        said = "; ".join(f"{key} {before.made_by[key]}, now {now.made_by[key]}" for key in differs)
        notes.append(
            f"the baseline's instructions and copied bytes are of another machine ({said}): "
            f"only system calls, allocations and page faults of the core are compared"
        )
    if before.made_by["inphase"] != now.made_by["inphase"]:
        notes.append(f"inphase was {before.made_by['inphase']} and is {now.made_by['inphase']}")
    if before.cycles != now.cycles:
        notes.append(
            f"{before.cycles} cycles were counted and {now.cycles} are now: counts are not "
            f"compared; make a new baseline"
        )
        return [], notes
    pairs = []
    for part, counted in now.parts.items():
        was = before.parts.get(part)
        if was is None or (differs and part != "cycle"):
            continue
        for kind in (*_WHOLE,) if differs else (*_SHARES, *_WHOLE):
            old, new = getattr(was, kind), getattr(counted, kind)
            most = old * (1 + LIMIT) if kind in _SHARES else old + _MOST_MORE.get(part, _MORE)
            pairs.append(CountPair(part, kind, old, new, new > most))
    grown = now.faults > before.faults + _FAULTS_MORE
    pairs.append(CountPair("cycle", "faults", before.faults, now.faults, grown))
    return pairs, notes


def sentence(pair: CountPair) -> str:
    """On one that has grown."""
    more = f", {pair.change}" if pair.change else ""
    return f"{pair.name}, per cycle, were {_shown(pair.before)} and are {_shown(pair.now)}{more}"


def _shown(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
