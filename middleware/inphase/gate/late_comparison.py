"""Late moments of two measurements, by their cause: those that are ours are judged."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.frames.record_layout import CAUSES
from inphase.gate.measurement import Measurement
from inphase.runtime.words import late_words

Verdict = Literal["more", "undecided", "within bounds", "told"]
JUDGED = "ours"
FLOOR = 1e-3
"""of the cycles: fewer late ones more are not told from a busy machine"""
_RESAMPLES = 2000
_SEED = 13
_LOWEST = 0.005


class LatePair(NamedTuple):
    """Late moments in a thousand cycles, of one cause."""

    cause: str
    before: float
    now: float
    verdict: Verdict
    """undecided: ours have grown, and those of the machine have, too. told: they are not ours"""


def compare(before: Measurement, now: Measurement) -> list[LatePair]:
    """Compare, for each cause that was seen. One round with a burst proves nothing."""
    others = [cause for cause in CAUSES if cause != JUDGED]
    is_busier = _have_grown(before, now, others)
    pairs = []
    for cause in (JUDGED, *others):
        old, new = _shares(before, [cause]), _shares(now, [cause])
        if not old.any() and not new.any():
            continue
        verdict: Verdict = "told"
        if cause == JUDGED and _have_grown(before, now, [cause]):
            verdict = "undecided" if is_busier else "more"
        elif cause == JUDGED:
            verdict = "within bounds"
        pairs.append(LatePair(cause, 1000 * float(old.mean()), 1000 * float(new.mean()), verdict))
    return pairs


def commonest(measured: Measurement) -> str:
    """The sentence that most rounds told of what is ours; "": none did."""
    said = [text for one in measured.rounds for text in one.late.said]
    ours = late_words.of_cause(JUDGED, said)
    return max(ours, key=ours.count, default="")


def sentence(pair: LatePair, now: Measurement) -> str:
    """A change for the worse, with the commonest reason."""
    return (
        f"late moments that are {pair.cause} were {pair.before:.3g} in a thousand cycles and are "
        f"{pair.now:.3g}: {commonest(now)}"
    )


def _shares(measured: Measurement, causes: list[str]) -> NDArray[np.float64]:
    """Late moments of those causes for each cycle of a round, by round."""
    late = [one.late for one in measured.rounds]
    return np.array([sum(one.causes[cause] for cause in causes) / one.cycles for one in late])


def _have_grown(before: Measurement, now: Measurement, causes: list[str]) -> bool:
    """True if their mean has grown by more than the floor, by a bootstrap over the rounds."""
    draws = np.random.default_rng(_SEED)
    new, old = (
        draws.choice(shares, (_RESAMPLES, shares.size)).mean(axis=1)
        for shares in (_shares(now, causes), _shares(before, causes))
    )
    return float(np.quantile(new - old, _LOWEST)) > FLOOR
