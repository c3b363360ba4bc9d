"""Rates of messages, by user: so many and so many bytes per second, with a burst of both."""

import time
from collections.abc import Callable
from typing import NamedTuple

_SECOND = 1_000_000_000
USERS_MAX = 4096


class Rate(NamedTuple):
    """Bounds of one user's messages."""

    messages: int = 500
    """per second"""
    messages_burst: int = 1000
    """at once, after silence"""
    size: int = 8 << 20
    """bytes per second"""
    size_burst: int = 16 << 20
    """bytes at once; a larger message never passes"""


class _Bucket(NamedTuple):
    """The rest at a time, in billionths."""

    at_ns: int
    messages: int
    size: int


class Rates:
    """A token bucket per user, of messages and of bytes: `take` for every message that comes.

    In any time t a user gets through `messages_burst + messages * t` messages, and the same of
    bytes. A refused message takes nothing, and no user takes from another. Memory is bounded: at
    most 4096 users are remembered; a further one is refused until one of them has a full bucket.
    Thread: one at a time. clock: nanoseconds that never go back.
    """

    def __init__(
        self, rate: Rate | None = None, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._rate = rate or Rate()
        self._full = self._rate.messages_burst * _SECOND, self._rate.size_burst * _SECOND
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self.refused: dict[str, int] = {}
        """messages refused so far, by user"""

    def take(self, user: str, size: int) -> bool:
        """True if a message of so many bytes may pass, which is then counted."""
        now = self._clock()
        held = self._buckets.get(user)
        if held is None:
            if len(self._buckets) >= USERS_MAX:
                self._forget_full(now)
            if len(self._buckets) >= USERS_MAX:
                return False
            messages, left = self._full
        else:
            messages, left = self._filled(held, now)
        passes = messages >= _SECOND and left >= size * _SECOND
        if passes:
            messages, left = messages - _SECOND, left - size * _SECOND
        else:
            self.refused[user] = self.refused.get(user, 0) + 1
        self._buckets[user] = _Bucket(now, messages, left)
        return passes

    def _filled(self, held: _Bucket, now: int) -> tuple[int, int]:
        """The messages and bytes in a bucket now."""
        rate, passed = self._rate, now - held.at_ns
        messages, size = self._full
        return (
            min(messages, held.messages + rate.messages * passed),
            min(size, held.size + rate.size * passed),
        )

    def _forget_full(self, now: int) -> None:
        """A full bucket is that of a user who was never here."""
        for user in [
            user for user, held in self._buckets.items() if self._filled(held, now) == self._full
        ]:
            del self._buckets[user]
            self.refused.pop(user, None)
