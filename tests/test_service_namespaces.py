"""A served robot and its client on two hosts, with a bad way between them: what is late or stale
is never applied, by count."""

import subprocess
import sys
from pathlib import Path

import pytest

from namespaces import OtherHost, can_be_made
from peers import until
from runtimes import Robot
from serving import APPROACHES, Served
from test_service_network import Acts

pytestmark = [
    pytest.mark.real,
    pytest.mark.long,
    pytest.mark.skipif(not can_be_made(), reason="network namespaces want root and /dev/net/tun"),
]
CYCLES = 250  # of each bad time
DRIVER = """
import sys, time
import inphase
from inphase.errors import ServiceError

with inphase.connect(sys.argv[1], key=sys.argv[2]) as robot:
    lease = robot.request(600).wait(20)
    start = None
    while True:
        try:
            with lease.drive() as drive:
                for frame in drive:
                    joints = frame["joints"]
                    if joints.status == "FRESH":
                        start = joints.value["position"].copy() if start is None else start
                        drive.act(start + 0.01 * (frame.cycle // 50 % 2))
        except (ServiceError, TimeoutError):
            time.sleep(0.1)
        lease.poll()
"""


def test_loss_delay_reordering_and_a_link_that_is_down_apply_nothing_late(tmp_path: Path) -> None:
    with OtherHost() as other, Robot() as robot:
        robot.write(APPROACHES)
        served = Served(
            robot,
            *("--grace", "5"),
            users={"ann": "drive"},
            host=other.addresses[0],
        )
        script = tmp_path / "drive.py"
        script.write_text(DRIVER)
        command = [sys.executable, str(script), served.remote, str(served.key_of("ann"))]
        with served:
            acts = Acts(robot.name)
            client = subprocess.Popen(other.command(*command), stdin=subprocess.DEVNULL)
            try:
                until(lambda: any(one[2] == "client" for one in acts.frames))
                for loss, delay_s, is_down in (
                    *((0.0, 0.0, True), (0.02, 0.0, False), (0.0, 0.03, False)),
                    *((0.02, 0.03, False), (0.2, 0.2, False), (0.0, 0.0, True)),
                ):
                    other.loss, other.delay_s, other.is_down = loss, delay_s, is_down
                    begun = acts.frames[-1][0]
                    until(lambda begun=begun: acts.frames[-1][0] > begun + CYCLES)  # type: ignore[misc]

                    # good again: the client goes on
                    other.loss, other.delay_s, other.is_down = 0.0, 0.0, False
                    mark = acts.frames[-1][0]
                    until(
                        lambda mark=mark: any(  # type: ignore[misc]
                            one[2] == "client" for one in acts.frames if one[0] > mark
                        )
                    )
            finally:
                client.kill()
                client.wait()
                acts.close()
        assert other.lost > CYCLES and other.overtook > 10
        driven = [one for one in acts.frames if one[2] == "client"]
        assert len(driven) > 50
        assert acts.stale() == []
        print(f"{len(acts.frames)} acts, {len(driven)} by the client, none late; {other.lost} of")
        print(f"{other.lost + other.passed} packets were lost, {other.overtook} overtook others")
