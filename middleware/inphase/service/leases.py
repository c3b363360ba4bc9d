"""The leases of one robot: who drives, who waits, and until when. Nothing waits here.

A lease is granted to one user, under a number that is never used again and a random token. Only who
has all three can keep or release it: a late message of an earlier holder changes nothing.
"""

import hmac
import secrets
from dataclasses import dataclass, field

from inphase.client.kinds import JOB_MARK
from inphase.errors import LeaseRefused

_RESERVATIONS = 16  # of one user at once


@dataclass(frozen=True)
class Now:
    """An instant on both clocks: leases run on the monotonic one, the calendar on the wall's."""

    run_s: float
    wall_s: float


@dataclass(frozen=True)
class LeaseRules:
    """The owner's rules."""

    keep_s: float = 1.0
    """so long a holder may be silent before the robot ramps"""
    grace_s: float = 10.0
    """so long before the lease is another's"""
    longest_s: float = 900.0
    """of a lease, while somebody waits or not"""
    queue: int = 32
    """who may wait at once"""
    daily_s: float = 8 * 3600.0
    """of one user in a day of the wall clock"""


@dataclass
class Lease:
    """One that was granted."""

    number: int
    user: str
    token: str
    granted: Now
    heard_s: float
    ends_s: float
    """on the monotonic clock, at the latest"""


@dataclass(frozen=True)
class Reservation:
    """A span of the wall clock in which one user alone is granted a lease."""

    number: int
    user: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class EndedLease:
    """A lease that has ended, and why."""

    lease: Lease
    at: Now
    why: str
    """released, silent, time, taken, reserved, revoked"""


@dataclass(frozen=True)
class Standing:
    """How a user stands with a robot."""

    state: str
    """`holds`, `waits`, or `none`"""
    lease: int = 0
    token: str = ""
    left_s: float = 0.0
    """of the lease, where it holds one"""
    position: int = 0
    """in the queue, from 1 on, where it waits"""
    wait_s: float = 0.0
    """an estimate: if all before it hold their lease to its end"""
    holder: str = ""


@dataclass
class LeaseBook:
    """Grants, keeps and ends leases. Thread: one."""

    rules: LeaseRules = field(default_factory=LeaseRules)
    number: int = 0
    """of the newest lease; the next one is higher"""
    lease: Lease | None = None
    closed: str = ""
    """why nobody is granted a lease; empty: it is open"""
    ended: list[EndedLease] = field(default_factory=list)
    """those since the last look; who looks empties it"""
    granted: list[Lease] = field(default_factory=list)
    """likewise"""

    def __post_init__(self) -> None:
        self._waiting: dict[str, float] = {}
        """the seconds that each user asks for, who came first first"""
        self._reservations: dict[int, Reservation] = {}
        self._used: dict[tuple[str, int], float] = {}
        """seconds by user and day"""

    # ---- what a user asks for --------------------------------------------------------------

    def request(self, user: str, now: Now, wanted_s: float | None = None) -> Standing:
        """Ask for a lease, or for how the one that was asked for stands.

        wanted_s: as long as it is to last, at most `longest_s`. Raises LeaseRefused.
        """
        self.advance(now)
        if self._holds(user) or user in self._waiting:
            return self.standing(user, now)
        wanted_s = self.rules.longest_s if wanted_s is None else wanted_s
        if not 0 < wanted_s <= self.rules.longest_s:
            raise LeaseRefused(
                f"a lease lasts up to {self.rules.longest_s:g} s, asked for {wanted_s:g} s"
            )
        if self.used_s(user, now) >= self.rules.daily_s:
            raise LeaseRefused(
                f"{user} has used its {self.rules.daily_s:g} s of this day; ask again tomorrow"
            )
        if len(self._waiting) >= self.rules.queue:
            raise LeaseRefused(f"{len(self._waiting)} users wait already; ask again later")
        self._waiting[user] = wanted_s
        self.advance(now)
        return self.standing(user, now)

    def standing(self, user: str, now: Now) -> Standing:
        """How that user stands now."""
        lease = self.lease
        holder = lease.user if lease is not None else ""
        if lease is not None and lease.user == user:
            left_s = max(0.0, lease.ends_s - now.run_s)
            return Standing("holds", lease.number, lease.token, left_s, holder=holder)
        if user not in self._waiting:
            return Standing("none", holder=holder)
        order = self._order(now)
        position = order.index(user) + 1
        before = [self._waiting[one] for one in order[: position - 1]]
        wait_s = sum(before) + (max(0.0, lease.ends_s - now.run_s) if lease is not None else 0.0)
        return Standing("waits", position=position, wait_s=wait_s, holder=holder)

    def keep(self, user: str, number: int, token: str, now: Now) -> Standing:
        """The holder is there still. Raises LeaseRefused where it is not the holder."""
        self.advance(now)
        self._own(user, number, token).heard_s = now.run_s
        return self.standing(user, now)

    def release(self, user: str, number: int, token: str, now: Now) -> None:
        """Give a lease back. Raises LeaseRefused where it is not the holder's any more."""
        self.advance(now)
        self._own(user, number, token)
        self._end("released", now)
        self.advance(now)

    def leave(self, user: str) -> None:
        """Wait no longer; no error where the user did not."""
        self._waiting.pop(user, None)

    def _own(self, user: str, number: int, token: str) -> Lease:
        lease = self.lease
        if lease is None or lease.number != number or lease.user != user:
            holder = f"{lease.user} holds lease {lease.number}" if lease is not None else "nobody"
            raise LeaseRefused(f"lease {number} is not {user}'s, or has ended; now: {holder}")
        if not hmac.compare_digest(lease.token.encode(), token.encode()):
            raise LeaseRefused(f"that is not the token of lease {number}")
        return lease

    def _holds(self, user: str) -> bool:
        return self.lease is not None and self.lease.user == user

    # ---- what the operator decides ---------------------------------------------------------

    def take(self, user: str, now: Now) -> Standing:
        """A local operator takes the lease over, whoever holds it."""
        self.advance(now)
        if not self._holds(user):
            self._end("taken", now)
            self._waiting.pop(user, None)
            self._grant(user, self.rules.longest_s, now)
        return self.standing(user, now)

    def revoke(self, user: str, now: Now) -> None:
        """That user holds, waits and has reserved no more: its key is gone."""
        for one in self.reservations:
            if one.user == user:
                del self._reservations[one.number]
        for waiting in self.queue:
            if _account(waiting) == user:
                self.leave(waiting)
        if self.lease is not None and _account(self.lease.user) == user:
            self._end("revoked", now)
            self.advance(now)

    def close(self, why: str, now: Now) -> None:
        """Grant no more leases; the present one ends."""
        self.closed = why
        self._end("closed", now)

    def reserve(self, user: str, start_s: float, end_s: float, now: Now) -> Reservation:
        """A span of the calendar for that user alone. Raises LeaseRefused."""
        if not now.wall_s <= end_s or not start_s < end_s:
            raise LeaseRefused("a reservation ends after it begins, and not in the past")
        if end_s - start_s > self.rules.daily_s:
            raise LeaseRefused(f"a reservation has at most {self.rules.daily_s:g} s")
        if sum(one.user == user for one in self._reservations.values()) >= _RESERVATIONS:
            raise LeaseRefused(f"{user} has {_RESERVATIONS} reservations; cancel one of them")
        for other in self._reservations.values():
            if start_s < other.end_s and other.start_s < end_s:
                raise LeaseRefused(f"{other.user} has reserved a part of that time")
        number = max(self._reservations, default=0) + 1
        made = self._reservations[number] = Reservation(number, user, start_s, end_s)
        self.advance(now)
        return made

    def cancel(self, number: int, user: str) -> None:
        """Give a reservation back. Raises LeaseRefused where it is not that user's."""
        found = self._reservations.get(number)
        if found is None or found.user != user:
            raise LeaseRefused(f"reservation {number} is not {user}'s")
        del self._reservations[number]

    @property
    def reservations(self) -> list[Reservation]:
        """Those to come, the next one first."""
        return sorted(self._reservations.values(), key=lambda one: one.start_s)

    @property
    def users(self) -> set[str]:
        """All who hold, wait or have reserved, by themselves or by a job."""
        holders = [self.lease.user] if self.lease is not None else []
        reserved = [one.user for one in self._reservations.values()]
        return {_account(one) for one in [*holders, *self._waiting, *reserved]}

    @property
    def queue(self) -> list[str]:
        """The users that wait, who came first first."""
        return list(self._waiting)

    # ---- time ------------------------------------------------------------------------------

    def advance(self, now: Now) -> None:
        """End what has ended by then, and grant what may be granted."""
        for number, one in [*self._reservations.items()]:
            if one.end_s <= now.wall_s:
                del self._reservations[number]
        lease, owner = self.lease, self._owner(now)
        if lease is not None:
            if now.run_s >= lease.ends_s:
                self._end("time", now)
            elif now.run_s - lease.heard_s >= self.rules.grace_s:
                self._end("silent", now)
            elif owner and owner != lease.user:
                self._end("reserved", now)
        if self.lease is None and not self.closed:
            for user in self._order(now):
                if owner in ("", user):
                    left_s = max(0.0, self.rules.daily_s - self.used_s(user, now))
                    self._grant(user, min(self._waiting.pop(user), left_s), now)
                    break

    def drives_until(self, now: Now) -> tuple[int, float]:
        """The lease that may drive, and until when by the monotonic clock; (0, 0.0): none."""
        lease = self.lease
        if lease is None:
            return 0, 0.0
        return lease.number, min(lease.heard_s + self.rules.keep_s, lease.ends_s)

    def used_s(self, user: str, now: Now) -> float:
        """Seconds of leases of that user on this day, its jobs among them."""
        used = self._used.get((_account(user), int(now.wall_s // 86400)), 0.0)
        if self.lease is not None and _account(self.lease.user) == _account(user):
            used += now.run_s - self.lease.granted.run_s
        return used

    def _owner(self, now: Now) -> str:
        """The user that has reserved this instant; empty: nobody has."""
        for one in self._reservations.values():
            if one.start_s <= now.wall_s < one.end_s:
                return one.user
        return ""

    def _order(self, now: Now) -> list[str]:
        """The users that wait, in the order of grants: one that has reserved this instant comes
        first."""
        owner = self._owner(now)
        return sorted(self._waiting, key=lambda user: user != owner)

    def _grant(self, user: str, lasts_s: float, now: Now) -> None:
        self.number += 1
        token = secrets.token_hex(16)
        self.lease = Lease(self.number, user, token, now, now.run_s, now.run_s + lasts_s)
        self.granted.append(self.lease)

    def _end(self, why: str, now: Now) -> None:
        lease, self.lease = self.lease, None
        if lease is None:
            return
        day = (_account(lease.user), int(now.wall_s // 86400))
        self._used[day] = self._used.get(day, 0.0) + now.run_s - lease.granted.run_s
        self.ended.append(EndedLease(lease, now, why))


def _account(holder: str) -> str:
    """Whose time a lease is: a job's is its user's."""
    return holder.partition(JOB_MARK)[0]
