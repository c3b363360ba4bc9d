"""Episodes of a run that goes on: a key, the Runner or the gateway begins and ends them.

All write one word of the page of clients' wishes. The core tells it in each frame, so that every
reader, recording and export agrees to the cycle.
"""

import os
from collections.abc import Callable

from inphase.frames.store import ClientPage, Segment

KEYS = {"b": "running", "s": "success", "f": "failure", "d": "discarded"}
"""the outcome that a key says"""


class EpisodeMarks:
    """Marks episodes on a page. Its maker closes it, before the page. Thread: one at a time."""

    def __init__(self, page: Segment, say: Callable[[str], None]) -> None:
        self._page = ClientPage(os.dup(page.fd))
        self._say = say

    def mark(self, outcome: str) -> int:
        """The number of the episode that begins (`running`) or has that outcome. Raises ValueError
        where there is none to end, or one runs already."""
        return self._page.episode(outcome)

    def take(self, keys: str) -> None:
        """The marks among the keys that were pressed; each is said, and why one is refused."""
        for key in keys:
            if key in KEYS:
                outcome = KEYS[key]
                try:
                    number = self.mark(outcome)
                except ValueError as error:
                    self._say(str(error))
                else:
                    self._say(f"episode {number} {'begins' if key == 'b' else f'is {outcome}'}")

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()
