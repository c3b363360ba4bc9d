"""Leases by their rules alone: whatever is asked in whatever order, one user at most may drive."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inphase.errors import LeaseRefused
from inphase.service.leases import LeaseBook, LeaseRules, Now

USERS = ("ann", "ben", "cas")
RULES = LeaseRules(keep_s=1.0, grace_s=5.0, longest_s=60.0, queue=2, daily_s=300.0)


def at(run_s: float) -> Now:
    return Now(run_s, 1_000_000.0 + run_s)


def test_who_comes_first_holds_it_and_the_others_wait_in_order() -> None:
    book = LeaseBook(RULES)
    first = book.request("ann", at(0), 10)
    assert (first.state, first.lease, first.left_s, first.holder) == ("holds", 1, 10, "ann")
    second, third = book.request("ben", at(1), 20), book.request("cas", at(2), 5)
    assert (second.state, second.position, second.wait_s) == ("waits", 1, 9)
    assert (third.position, third.wait_s, third.holder) == (2, 28, "ann")
    assert book.request("ben", at(3)).position == 1  # asked again: it stands as it stood
    with pytest.raises(LeaseRefused, match="2 users wait already"):
        book.request("dan", at(3))
    book.release("ann", 1, first.token, at(4))
    assert book.standing("ben", at(4)).state == "holds"
    assert [one.why for one in book.ended] == ["released"]


def test_a_silent_holder_stops_driving_and_then_loses_its_lease() -> None:
    book = LeaseBook(RULES)
    held = book.request("ann", at(0))
    assert book.drives_until(at(0.5)) == (1, 1.0)
    book.keep("ann", 1, held.token, at(4.9))  # back within the grace
    assert book.drives_until(at(5)) == (1, 5.9)
    book.request("ben", at(6))
    book.advance(at(9.8))
    assert book.lease is not None and book.lease.user == "ann"
    book.advance(at(9.9))
    assert book.lease.user == "ben" and book.ended[0].why == "silent"
    with pytest.raises(LeaseRefused, match=r"lease 1 is not ann's.*ben holds lease 2"):
        book.keep("ann", 1, held.token, at(10))


def test_a_late_release_of_an_earlier_holder_changes_nothing() -> None:
    book = LeaseBook(RULES)
    old = book.request("ann", at(0))
    book.release("ann", old.lease, old.token, at(1))
    new = book.request("ann", at(2))
    with pytest.raises(LeaseRefused, match="lease 1 is not"):
        book.release("ann", old.lease, old.token, at(3))
    with pytest.raises(LeaseRefused, match="not the token of lease 2"):
        book.release("ann", new.lease, old.token, at(3))
    assert book.standing("ann", at(3)).lease == 2


def test_a_lease_ends_at_its_time_however_often_it_is_kept() -> None:
    book = LeaseBook(RULES)
    held = book.request("ann", at(0), 3)
    for second in range(3):
        book.keep("ann", 1, held.token, at(second))
    assert book.drives_until(at(2)) == (1, 3.0)
    with pytest.raises(LeaseRefused):
        book.keep("ann", 1, held.token, at(3))
    assert book.ended[0].why == "time"


def test_a_local_operator_takes_over_at_once() -> None:
    book = LeaseBook(RULES)
    book.request("ann", at(0))
    book.request("ben", at(0))
    assert book.take("local", at(1)).lease == 2
    assert [one.why for one in book.ended] == ["taken"] and book.queue == ["ben"]
    assert book.take("local", at(2)).lease == 2


def test_a_reserved_time_is_of_one_user() -> None:
    book = LeaseBook(RULES)
    book.request("ann", at(0))
    made = book.reserve("ben", 1_000_010.0, 1_000_020.0, at(0))
    with pytest.raises(LeaseRefused, match="ben has reserved"):
        book.reserve("cas", 1_000_019.0, 1_000_030.0, at(0))
    with pytest.raises(LeaseRefused, match="not cas's"):
        book.cancel(made.number, "cas")
    book.keep("ann", 1, book.standing("ann", at(4)).token, at(4))
    book.keep("ann", 1, book.standing("ann", at(8)).token, at(8))
    assert book.request("cas", at(9)).state == "waits"
    book.advance(at(10))
    assert book.lease is None and book.ended[0].why == "reserved"
    assert book.request("ben", at(11)).state == "holds"
    book.release("ben", 2, book.standing("ben", at(11)).token, at(12))
    assert book.standing("cas", at(12)).state == "waits"
    book.advance(at(20))
    assert book.standing("cas", at(20)).state == "holds" and book.reservations == []


def test_a_user_has_so_many_reservations_at_once() -> None:
    book = LeaseBook(RULES)
    for number in range(16):
        book.reserve("ann", 1_000_010.0 + number, 1_000_011.0 + number, at(0))
    with pytest.raises(LeaseRefused, match="ann has 16 reservations; cancel"):
        book.reserve("ann", 1_000_100.0, 1_000_101.0, at(0))
    book.cancel(1, "ann")
    book.reserve("ann", 1_000_100.0, 1_000_101.0, at(0))
    book.reserve("ben", 1_000_200.0, 1_000_201.0, at(0))


def test_a_day_has_a_quota() -> None:
    book = LeaseBook(LeaseRules(longest_s=60.0, daily_s=70.0, grace_s=1000.0))
    book.request("ann", at(0))
    book.advance(at(60))
    assert book.request("ann", at(61)).left_s == 10
    book.advance(at(71))
    with pytest.raises(LeaseRefused, match="used its 70 s of this day"):
        book.request("ann", at(72))
    assert book.request("ann", at(86_400 * 2)).state == "holds"


def test_a_revoked_user_neither_holds_nor_waits() -> None:
    book = LeaseBook(RULES)
    book.request("ann", at(0))
    book.request("ben", at(0))
    book.revoke("ann", at(1))
    assert book.standing("ben", at(1)).state == "holds"
    book.request("cas", at(1))
    book.revoke("cas", at(1))
    assert book.queue == []
    book.reserve("ben", 1_000_002.0, 1_000_200.0, at(1))
    assert "ben" in book.users
    book.revoke("ben", at(1))
    assert book.reservations == [] and book.users == set()  # it keeps nobody out
    book.close("the robot is away", at(2))
    assert book.lease is None and book.request("ann", at(3)).state == "waits"


class Leases(RuleBasedStateMachine):
    """Everybody asks for everything, with right and with wrong words, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.book = LeaseBook(RULES)
        self.run_s = 0.0
        self.known: list[tuple[str, int, str]] = []
        self.heard: dict[int, float] = {}
        self.numbers: list[int] = []

    @property
    def now(self) -> Now:
        return at(self.run_s)

    def note(self) -> None:
        for lease in self.book.granted:
            self.numbers.append(lease.number)
            self.known.append((lease.user, lease.number, lease.token))
            self.heard[lease.number] = self.run_s
        self.book.granted.clear()

    @rule(seconds=st.floats(0.0, 10.0))
    def time_passes(self, seconds: float) -> None:
        self.run_s += seconds
        self.book.advance(self.now)
        self.note()

    @rule(user=st.sampled_from(USERS), wanted_s=st.floats(0.1, 60.0))
    def ask(self, user: str, wanted_s: float) -> None:
        try:
            self.book.request(user, self.now, wanted_s)
        except LeaseRefused:
            assert len(self.book.queue) >= 2 or self.book.used_s(user, self.now) >= 300.0
        self.note()

    @precondition(lambda self: self.known)
    @rule(data=st.data(), user=st.sampled_from(USERS), ends=st.booleans())
    def use_a_number_and_a_token(self, data: st.DataObject, user: str, ends: bool) -> None:
        _, number, _ = data.draw(st.sampled_from(self.known))
        _, _, token = data.draw(st.sampled_from(self.known))
        self.book.advance(self.now)
        self.note()
        lease = self.book.lease
        is_right = lease is not None and (lease.user, lease.number, lease.token) == (
            user,
            number,
            token,
        )
        try:
            if ends:
                self.book.release(user, number, token, self.now)
            else:
                self.book.keep(user, number, token, self.now)
                self.heard[number] = self.run_s
            assert is_right
        except LeaseRefused:
            assert not is_right
        self.note()

    @rule()
    def take(self) -> None:
        assert self.book.take("local", self.now).state == "holds"
        self.note()

    @rule(user=st.sampled_from(USERS))
    def revoke(self, user: str) -> None:
        self.book.revoke(user, self.now)
        self.note()
        assert self.book.standing(user, self.now).state == "none"

    @rule(user=st.sampled_from(USERS), start=st.floats(0, 20), lasts=st.floats(0.1, 20))
    def reserve(self, user: str, start: float, lasts: float) -> None:
        begin = self.now.wall_s + start
        try:
            self.book.reserve(user, begin, begin + lasts, self.now)
        except LeaseRefused:
            assert self.book.reservations
        self.note()

    @invariant()
    def numbers_rise(self) -> None:
        assert self.numbers == sorted(set(self.numbers))

    @invariant()
    def only_a_holder_that_was_heard_drives(self) -> None:
        number, until_s = self.book.drives_until(self.now)
        lease = self.book.lease
        assert number == (lease.number if lease is not None else 0)
        if lease is not None:
            assert number == self.numbers[-1]
            assert until_s <= self.heard[number] + RULES.keep_s
            assert until_s <= lease.granted.run_s + RULES.longest_s

    @invariant()
    def a_holder_does_not_wait(self) -> None:
        assert self.book.lease is None or self.book.lease.user not in self.book.queue
        assert len(self.book.queue) <= RULES.queue


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
