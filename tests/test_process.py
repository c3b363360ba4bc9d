"""Processes of a runtime: what they inherit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inphase.errors import RuntimeFault
from inphase.host.process import Process

CHILD = """
import os
import time
from inphase.host import process

process.say_ready()
time.sleep(60)
"""
PARENT = """
import os
from pathlib import Path
from inphase.host.process import Process

os.sched_setscheduler(0, os.{policy}, os.sched_param(7))
for _ in range(2):
    child = Process("child", "child", [], folder=Path.cwd())
    child.wait_ready()
    print(os.sched_getscheduler(child.pid), os.sched_getparam(child.pid).sched_priority)
    child.stop()
print(os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.sched_getparam(0).sched_priority)
"""


@pytest.mark.real
@pytest.mark.parametrize("policy", ["SCHED_FIFO", "SCHED_RR"])
def test_a_child_of_a_real_time_process_is_an_ordinary_one(tmp_path: Path, policy: str) -> None:
    with_rights = subprocess.run(["chrt", "-f", "7", "true"], capture_output=True, check=False)
    if with_rights.returncode:
        pytest.skip("SCHED_FIFO is refused here: no RLIMIT_RTPRIO or CAP_SYS_NICE")
    tmp_path.joinpath("child.py").write_text(CHILD)
    done = subprocess.run(
        [sys.executable, "-c", PARENT.format(policy=policy)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    ordinary = f"{os.SCHED_OTHER} 0"
    assert done.stdout.splitlines() == [ordinary, ordinary, f"{getattr(os, policy)} 7"]


def open_files() -> set[str]:
    return {one.name for one in Path("/proc/self/fd").iterdir()}


@pytest.mark.real
def test_of_a_child_that_ends_at_its_start_nothing_is_left(tmp_path: Path) -> None:
    tmp_path.joinpath("child.py").write_text("raise SystemExit(7)")
    before = open_files()
    child = Process("child", "child", [], folder=tmp_path, has_scratch=True)
    with pytest.raises(RuntimeFault, match="exit code 7") as raised:
        child.wait_ready()
    assert raised.value.exit_code == 7
    assert open_files() == before
    assert child.ended() == "exit code 7"
