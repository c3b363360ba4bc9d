"""Where output goes that nobody takes: it holds up nobody, and says how much is missing."""

import threading

from inphase.host.outlet import Outlet
from peers import BOUND_S


def test_all_goes_out_in_order_and_the_end_comes_last() -> None:
    out: list[str] = []
    outlet = Outlet(out.append, str, end=lambda: out.append("end"))
    for number in range(100):
        outlet.put(f"item {number}")
    outlet.close(BOUND_S)
    assert out == [*(f"item {number}" for number in range(100)), "end"]


def test_what_has_no_room_is_dropped_and_counted_and_what_is_needed_is_not() -> None:
    out: list[str] = []
    began, goes_on = threading.Event(), threading.Event()

    def deliver(item: str) -> None:
        began.set()
        assert goes_on.wait(BOUND_S)
        out.append(item)

    outlet = Outlet(deliver, lambda count: f"{count} were dropped")
    outlet.put("first")
    assert began.wait(BOUND_S)
    for number in range(1000):  # from the one that puts: it never waits
        outlet.put(f"item {number}")
    outlet.put("answer", needed=True)
    goes_on.set()
    outlet.close(BOUND_S)
    kept = [item for item in out if item.startswith("item")]
    assert out[:2] == ["first", f"{1000 - len(kept)} were dropped"]
    assert kept == [f"item {number}" for number in range(len(kept))] and len(kept) == 256
    assert out[-1] == "answer"


def test_a_reader_that_is_gone_or_never_reads_holds_nothing_up() -> None:
    def is_gone(_: str) -> None:
        raise BrokenPipeError

    outlet = Outlet(is_gone, str)
    for _ in range(1000):
        outlet.put("text")
    outlet.close(BOUND_S)

    forever = threading.Event()
    outlet = Outlet(lambda _: forever.wait() and None, str)
    outlet.put("text")
    outlet.close(0.01)
    forever.set()
