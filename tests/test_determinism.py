"""Lock step gives the same bytes: however it is stepped, wherever and beside whatever it runs."""

from pathlib import Path

import msgspec
import pytest

from arms import arm_schedule
from inphase import load
from inphase.lockstep import LockStep
from inphase.schedule import Schedule


def _without_policy(described: Schedule) -> Schedule:
    return msgspec.structs.replace(described, policy=None)


@pytest.mark.parametrize("policy", [True, False])
def test_the_digest_does_not_depend_on_how_a_run_is_stepped(tmp_path: Path, policy: bool) -> None:
    described = load(arm_schedule(tmp_path, timing=True))

    def run(*parts: int, singly: bool = False) -> str:
        hold = (lambda frame: frame["joints"].value["position"].copy()) if policy else None
        with LockStep(_without_policy(described), seed=5, call=hold) as robot:
            for part in parts:
                if singly:
                    for _ in robot.frames(part):
                        robot.digest()
                else:
                    robot.run(part)
            return robot.digest()

    whole = run(900)
    assert run(7, 400, 1, 492) == run(900, singly=True) == whole
    assert run(899) != whole
