"""The events of a run, for a person."""

from collections import deque
from collections.abc import Callable

_EVENTS_MAX = 1000


class Events:
    """The events of one run: each is said at once, and kept for the summary."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._newest: deque[str] = deque(maxlen=_EVENTS_MAX)
        self._dropped = 0

    def tell(self, event: str) -> None:
        """Say an event, and keep it."""
        self._dropped += len(self._newest) == _EVENTS_MAX
        self._newest.append(event)
        self._say(event)

    @property
    def kept(self) -> list[str]:
        """Those so far, oldest first; of very many the newest, and how many are left out."""
        left_out = [f"{self._dropped} earlier events were left out"]
        return left_out * (self._dropped > 0) + list(self._newest)
