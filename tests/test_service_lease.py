"""A lease from the client's side: kept alive each time that it is had, and never waited for."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import msgpack
import psutil
import pytest
import zmq

from inphase.client.connection import ServiceConnection
from inphase.errors import ServiceError
from inphase.frames.store_follower import StoreFollower
from inphase.remote import COMMAND
from inphase.service.requests import RequestRates
from peers import BOUND_S, until
from runtimes import Robot
from serving import Served
from test_service import LEASE_S

pytestmark = pytest.mark.real
_MANY = 200_000


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot, Served(robot, "--grace", "2") as made:
        yield made


def keepers() -> int:
    """Threads that keep a lease alive."""
    return sum(thread.name == "inphase lease" for thread in threading.enumerate())


def test_a_lease_that_ended_is_kept_alive_when_it_is_had_again(served: Served) -> None:
    follower, before = StoreFollower.of_robot(served.robot.name), keepers()
    with served.connect() as robot:
        lease = robot.request(1.0).wait(20)
        first = lease.number
        until(lambda: lease.poll() == "none")
        assert robot.request(LEASE_S) is lease
        until(lambda: lease.poll() == "holds")
        assert lease.number > first and lease.ended == "" and keepers() == before + 1
        until(lambda: follower.next().command.lease == lease.number)
        held = [follower.next().command.lease for _ in range(250)]  # two seconds of them
        assert set(held) == {lease.number}
    follower.close()


def test_a_lease_that_was_taken_is_kept_by_one_thread(served: Served) -> None:
    before = keepers()
    with served.connect() as robot:
        first = robot.request(LEASE_S).wait(20)
        number = first.number
        taken = robot.take().wait(20)
        assert (taken.number, first.is_closed, keepers()) == (number, True, before + 1)
        first.close()
        assert taken.poll() == "holds" and first.poll() == "holds" and keepers() == before + 1
    assert keepers() == before


def test_a_users_other_requests_do_not_hold_up_its_keep_alives(served: Served) -> None:
    with served.connect() as robot:
        lease = robot.request(LEASE_S).wait(20)
        keeper = lease._keeper
        assert keeper is not None
        with robot._connection._lock:  # a request that is under way
            until(lambda: keeper.kept >= 8)  # two seconds of them


def test_keep_alives_pass_beside_a_flood_of_their_user_at_a_rate_of_their_own() -> None:
    now_ns = 0
    rates = RequestRates(lambda: now_ns)
    ping = msgpack.packb({"do": "ping"})
    keep = msgpack.packb({"do": "keep", "id": 1, "robot": "arm", "lease": 7, "token": "t" * 32})
    long = msgpack.packb({"do": "keep", "token": "t" * 600})

    def passed(user: str, request: bytes) -> int:
        return sum(rates.pass_on(user, request) for _ in range(5000))

    assert passed("ann", ping) == 1000  # at once, after silence
    assert passed("ann", long) == passed("ann", b"\xc1") == 0
    assert passed("ann", keep) == 200
    assert passed("ben", ping) == 1000  # another's are another's
    now_ns = 1_000_000_000
    assert passed("ann", ping) == 500
    assert passed("ann", keep) == 100


@pytest.mark.long
def test_a_flood_of_one_user_does_not_end_its_lease(served: Served) -> None:
    with served.connect() as robot:
        lease = robot.request(LEASE_S).wait(20)
        keeper, begun = lease._keeper, StoreFollower.of_robot(served.robot.name)
        assert keeper is not None
        flood = ServiceConnection(served.address)
        flood._socket.setsockopt(zmq.SNDTIMEO, 1000)
        asked = 0

        def is_kept_beside() -> bool:
            nonlocal asked
            for _ in range(32):  # as many as wait there at most
                flood._socket.send(msgpack.packb({"do": "ping"}))
                asked += 1
            while flood._socket.poll(1):
                flood._socket.recv()
            return asked > 5000 and keeper.kept - first >= 12

        first = keeper.kept
        until(is_kept_beside)
        assert keeper.ended == "" and lease.poll() == "holds"
        flood.close()
        held = {begun.next().command.lease for _ in range(50)}
        begun.close()
    assert held == {lease.number}


def in_time(work: Callable[[], None]) -> BaseException | None:
    """What that raises. A failure where it does not come to an end."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(BOUND_S)
    assert not thread.is_alive(), "it waits for ever"
    return raised[0] if raised else None


def fill(socket: "zmq.Socket[bytes]", *parts: bytes) -> None:
    """Send until no more goes in."""
    with pytest.raises(zmq.Again):
        for _ in range(_MANY):
            socket.send_multipart(parts, zmq.NOBLOCK)


def test_a_client_that_nobody_closed_and_nobody_has_any_more_is_no_hindrance() -> None:
    """With a cycle of references, as an exception makes one with the frames of its traceback."""

    def collect() -> None:
        asked = ServiceConnection("ipc:///nowhere/at-all")
        with pytest.raises(ServiceError, match="no service answers"):
            asked.ask("ping", timeout_s=0.01)
        holder: list[object] = [asked, asked.socket(asked.address)]
        holder.append(holder)
        gone = weakref.ref(asked)
        del asked, holder
        gc.collect()
        assert gone() is None

    assert in_time(collect) is None


def test_a_request_that_cannot_go_out_is_told(served: Served) -> None:
    asked = ServiceConnection(f"ipc://{served.run}/nobody")
    fill(asked._socket, b"x")
    error = in_time(lambda: asked.ask("ping"))  # type: ignore[arg-type,return-value]
    assert isinstance(error, ServiceError) and "cannot be sent" in str(error)
    asked.close()


def test_a_client_does_not_wait_for_a_drive_process_that_stands_still(served: Served) -> None:
    with served.connect() as robot, robot.request(LEASE_S).wait(20) as lease:
        drive = lease.drive()
        children = psutil.Process(served.process.pid).children()
        (process,) = [one for one in children if "inphase.service.drive" in one.cmdline()]
        process.suspend()
        try:
            fill(drive._socket, COMMAND, b"x" * 4096)
            drive._pinged_s = 0.0

            def wait_for_frames() -> None:
                while True:
                    drive.next(0.5)

            assert isinstance(in_time(wait_for_frames), TimeoutError)
            assert in_time(drive.close) is None
        finally:
            process.resume()
