"""A served robot behind a bad network: no late or stale command is ever applied, by count."""

import threading
from collections.abc import Iterator

import pytest

import inphase
from inphase.client.remote_robot import RemoteRobot
from inphase.errors import ServiceError
from inphase.frame import Frame
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from links import Link
from peers import until
from runtimes import Robot
from serving import Served
from test_service import LEASE_S, swing

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    users = {"ann": "drive", "ben": "drive"}
    with Robot() as robot, Served(robot, "--grace", "3", users=users) as made:  # type: ignore[arg-type]
        yield made


ANSWERS = ("old", "taken")


def answers(robot: RemoteRobot) -> int:
    """Answers that came, as the drive process tells them once a second."""
    counts = robot.facts["commands"]
    return sum(counts.get(name, 0) for name in ANSWERS)


class Acts(threading.Thread):
    """All frames of a robot, from its store, until it is closed."""

    def __init__(self, robot: str) -> None:
        super().__init__(daemon=True)
        self._follower = StoreFollower.of_robot(robot)
        self._over = threading.Event()
        self.frames: list[tuple[int, int | None, str, int, str]] = []
        """cycle of the act, cycle that it answers, who drove, under which lease, why not"""
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self._take(self._follower.next(0.1))
            except TimeoutError:
                continue
            except store.Lost:
                return

    def _take(self, frame: Frame) -> None:
        command = frame.command
        reason = command["arm"].reason
        self.frames.append(
            (command.cycle, command.answered_cycle, command.drove, command.lease, reason)
        )

    def stale(self) -> list[tuple[int, int | None, str, int, str]]:
        """Commands that were applied though they answer a frame of long ago, or under no lease."""
        return [
            one
            for one in self.frames
            if one[2] != "nobody" and (one[1] is None or one[0] - one[1] > 0 or one[3] == 0)
        ]

    def close(self) -> None:
        self._over.set()
        self.join()
        self._follower.close()


def test_a_link_that_goes_down_and_comes_back_applies_nothing_late(served: Served) -> None:
    port = int(served.remote.rpartition(":")[2])
    acts = Acts(served.robot.name)
    with Link(port, 3) as link:
        address = f"tcp://127.0.0.1:{link.port}"
        with inphase.connect(address, key=served.key_of("ann")) as robot:
            lease = robot.request(LEASE_S).wait(20)
            with lease.drive() as drive:
                until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
                number = lease.number

                # 2 s without a way: the client goes on to answer, and all of it waits on the way
                link.is_down = True
                begun = acts.frames[-1][0]
                until(lambda: any(one[3] == 0 for one in acts.frames if one[0] > begun))
                until(lambda: acts.frames[-1][0] > begun + 2 * 125)
                for _ in range(50):
                    drive.act(drive.frame["joints"].value["position"])  # type: ignore[index]
                link.is_down = False
                until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
                assert lease.poll() == "holds" and lease.number == number

                # a way that is later than an answer may be: nothing is applied, and all is counted
                link.delay_s = 0.2
                before = robot.facts["commands"]
                mark = acts.frames[-1][0] + 60
                until(lambda: acts.frames[-1][0] > mark)
                swing(drive, 60)
                late = [one for one in acts.frames if one[0] > mark + 60]
                assert not [one for one in late if one[2] != "nobody"]
                link.delay_s = 0.0
                until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
                until(lambda: answers(robot) > sum(before.get(name, 0) for name in ANSWERS))
    acts.close()
    assert acts.stale() == []
    assert len({one[3] for one in acts.frames} - {0}) == 1


def test_a_connection_that_breaks_is_made_again_or_the_robot_is_the_next_users(
    served: Served,
) -> None:
    port = int(served.remote.rpartition(":")[2])
    acts = Acts(served.robot.name)
    with Link(port, 3) as link:
        address = f"tcp://127.0.0.1:{link.port}"
        ann = inphase.connect(address, key=served.key_of("ann"))
        lease = ann.request(LEASE_S).wait(20)
        drive = lease.drive()
        until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
        link.is_down = True
        link.cut()
        with served.connect(served.key_of("ben")) as ben:
            until(lambda: ben.facts["lease"] != lease.number)
            with ben.request(LEASE_S).wait(20) as other, other.drive() as driving:
                until(lambda: any(f.command.drove == "client" for f in swing(driving, 20)))
        drive.close()
        with pytest.raises(ServiceError, match="no service answers"):
            ann._connection.ask("robots", timeout_s=0.3)
        link.is_down = False
        until(lambda: ann._connection.ask("robots", timeout_s=1.0)["user"] == "ann")
        ann.close()
    acts.close()
    assert acts.stale() == []
