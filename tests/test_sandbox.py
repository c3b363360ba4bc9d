"""What a policy's process may do: real processes that try what they must not, and go on."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase import load
from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from peers import until
from robots import demo_schedule
from runtimes import SWEEP, Robot, Run

pytestmark = pytest.mark.real

CALL = 'call = "sweep.py:Sweep"'
_LANDLOCK = 444  # landlock_create_ruleset, on every machine
ABI = ctypes.CDLL(None).syscall(_LANDLOCK, 0, 0, 1)
needs_landlock = pytest.mark.skipif(ABI < 1, reason="this kernel has no Landlock")

# each is tried in the policy's process: the name of what came of it is told on stderr
TRIES = """
import ctypes, errno, fcntl, json, os, signal, socket, subprocess, sys, tempfile, termios

OTHER = os.getppid()
LIBC = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    if LIBC.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def rescheduled():
    os.sched_setscheduler(OTHER, os.SCHED_BATCH, os.sched_param(0))
    if os.sched_getscheduler(OTHER) != os.SCHED_BATCH:
        raise PermissionError(errno.EPERM, "nothing was done")


def moved():
    before = os.sched_getaffinity(OTHER)
    os.sched_setaffinity(OTHER, {min(before)})
    if os.sched_getaffinity(OTHER) == before:
        raise PermissionError(errno.EPERM, "nothing was done")


def injected():
    fcntl.ioctl(0, termios.TIOCSTI, b"x")


def shortened():
    for fd in range(3, 64):
        for change in (lambda: os.ftruncate(fd, 0), lambda: os.posix_fallocate(fd, 0, 1 << 20)):
            try:
                change()
                return
            except OSError as error:
                refused = error
    raise refused


TRIES = {
    "an internet socket": lambda: socket.socket(),
    "a socket of this host": lambda: socket.socket(socket.AF_UNIX),
    "a connection": lambda: socket.create_connection(("127.0.0.1", 9), 1),
    "a socket of the kernel": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "ptrace": lambda: call(ptrace_number(), 16, OTHER, 0, 0),
    "another's memory": lambda: open(f"/proc/{OTHER}/mem", "rb"),
    "another's descriptor": lambda: os.open(f"/proc/{OTHER}/fd/2", os.O_RDONLY),
    "a signal to the runtime": lambda: os.kill(OTHER, 0),
    "a signal to its group": lambda: os.kill(0, 0),
    "a signal by descriptor": lambda: os.pidfd_open(OTHER),
    "the runtime's scheduling": rescheduled,
    "the runtime's cores": moved,
    "a priority of its own": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(98)),
    "a fork": lambda: os.fork() or os._exit(0),
    "a program": lambda: subprocess.run(["/bin/true"], check=True),
    "a program in its place": lambda: os.execv("/bin/true", ["true"]),
    "a terminal": lambda: os.open(os.environ["TEST_TERMINAL"], os.O_RDWR | os.O_NOCTTY),
    "a terminal, to read": lambda: open(os.environ["TEST_TERMINAL"], "rb"),
    "a terminal of its own": lambda: os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY),
    "input of a terminal": injected,
    "a file": lambda: open(os.environ["TEST_FILE"], "w"),
    "a temporary file of others": lambda: tempfile.TemporaryFile(dir="/tmp"),
    "a file of the store": lambda: open(f"{sys.argv[2]}.test", "w"),
    "the robot's end": lambda: os.unlink(sys.argv[2]),
    "the length of what it has": lambda: shortened(),
    "a file's mode": lambda: os.chmod(sys.argv[1], 0o600),
    "io_uring": lambda: call(425, 8, bytes(120)),
}


def ptrace_number():
    return 101 if os.uname().machine == "x86_64" else 117


def result(call):
    try:
        call()
    except BaseException as error:
        return errno.errorcode.get(getattr(error, "errno", None), repr(error))
    return "done"


def tell(names=TRIES):
    print("tried", json.dumps({name: result(TRIES[name]) for name in names}), file=sys.stderr)
"""
POLICY = SWEEP + "\n\nimport tries\n\ntries.tell()\n"


class Tried:
    """A run whose policy has tried all of it."""

    def __init__(self, robot: Robot, run: Run, tries: dict[str, str]) -> None:
        self.robot, self.run, self.tries = robot, run, tries


def _run(robot: Robot, *keys: str, policy: str = POLICY) -> Run:
    robot.folder.joinpath("tries.py").write_text(TRIES)
    robot.folder.joinpath("sweep.py").write_text(policy)
    robot.write((CALL, "\n".join([CALL, *keys])))
    environment = {
        "TEST_TERMINAL": robot.terminal,  # type: ignore[attr-defined]
        "TEST_FILE": str(robot.folder / "written"),
    }
    return robot.run(env=os.environ | environment)


def _tries(run: Run) -> dict[str, str]:
    run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("tried "))
    found: dict[str, str] = json.loads(line.removeprefix("tried "))
    return found


@contextlib.contextmanager
def _terminal(robot: Robot) -> Iterator[Robot]:
    """With a terminal that is nobody's."""
    ours, theirs = os.openpty()
    robot.terminal = os.ttyname(theirs)  # type: ignore[attr-defined]
    yield robot
    os.close(ours)
    os.close(theirs)


@pytest.fixture(scope="module")
def robot() -> Iterator[Robot]:
    """The emulated robot."""
    with Robot() as robot, _terminal(robot):
        yield robot


@pytest.fixture(scope="module")
def closed() -> Iterator[Tried]:
    """A run of a robot of its own, with nothing allowed to its policy."""
    with Robot() as robot, _terminal(robot), _run(robot) as run:
        yield Tried(robot, run, _tries(run))


def names() -> list[str]:
    """Of all that is tried."""
    found: dict[str, Any] = {}
    exec(TRIES, found)  # in this process: makes the table, tries nothing
    return list(found["TRIES"])


@needs_landlock
@pytest.mark.parametrize("name", names())
def test_a_policy_may_not(closed: Tried, name: str) -> None:
    assert closed.tries[name] in ("EPERM", "EACCES")


def test_it_reads_the_store_and_moves_the_robot_all_the_same(closed: Tried) -> None:
    closed.run.moving()
    policy = closed.run.child("inphase.policy")
    status = Path(f"/proc/{policy.pid}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["NoNewPrivs"] == "1" and facts["Seccomp"] == "2"
    assert int(facts["CapEff"], 16) in (0, 1 << 2), "reading files is all that root keeps"
    assert facts["CapPrm"] == facts["CapEff"]
    assert [file for file in policy.open_files() if file.fd > 2] == []
    had = [
        int(Path(f"/proc/{policy.pid}/fdinfo/{fd.name}").read_text().split()[3], 8)
        for fd in Path(f"/proc/{policy.pid}/fd").iterdir()
        if "memfd:inphase" in str(fd.readlink())
    ]
    assert had and not [flags for flags in had if flags & 3 != os.O_RDONLY], "of the store, to read"
    assert policy.net_connections() == []


def test_what_was_granted_is_in_the_summary(robot: Robot) -> None:
    with _run(robot, policy=SWEEP) as run:
        run.moving()
        run.signal(signal.SIGINT)
        _, summary = run.end()
    found = summary["policy"]["sandbox"]
    assert found["seccomp"] and found["allow"] == []
    assert found["landlock"] == (ABI if ABI > 0 else None)
    assert (found["lacking"] is None) == (ABI > 0)
    assert ("not available" in run.stderr) == (ABI < 1)


ALLOWED = {
    "network": ["an internet socket", "a socket of this host", "a socket of the kernel"],
    "devices": ["a terminal", "a terminal, to read", "a terminal of its own"],
    "files": ["a file", "a temporary file of others", "a file's mode"],
    "processes": ["a fork", "a program"],
}


@needs_landlock
@pytest.mark.parametrize("kind", ALLOWED)
def test_what_the_schedule_allows_is_opened_and_nothing_else(robot: Robot, kind: str) -> None:
    others = "tries.tell([n for n in tries.TRIES if 'place' not in n])"  # not exec
    policy = POLICY.replace("tries.tell()", others)
    with _run(robot, f'allow = ["{kind}"]', policy=policy) as run:
        tries = _tries(run)
        run.signal(signal.SIGINT)
        _, summary = run.end()
    done = {name for name, what in tries.items() if what == "done"}
    assert done == set(ALLOWED[kind])
    assert summary["policy"]["sandbox"]["allow"] == [kind]


def test_a_policy_has_a_folder_for_temporary_files_which_is_gone_when_it_is(robot: Robot) -> None:
    tell = (
        "\n\nimport sys, tempfile\n"
        "with tempfile.NamedTemporaryFile(delete=False) as file:\n"
        "    file.write(b'x')\n"
        "print('tried', file.name, file=sys.stderr)\n"
    )
    with _run(robot, policy=SWEEP + tell) as run:
        run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        (line,) = (line for line in run.stderr.splitlines() if line.startswith("tried "))
        file = Path(line.split()[1])
        assert file.read_bytes() == b"x"
        run.signal(signal.SIGINT)
        run.end()
    assert not file.parent.exists()


def test_a_policy_that_reaches_out_in_a_cycle_gives_none_and_the_robot_rests(
    robot: Robot,
) -> None:
    policy = "import socket\ndef sweep(frame):\n    socket.create_connection(('127.0.0.1', 9))\n"
    robot.folder.joinpath("sweep.py").write_text(policy)
    robot.write((CALL, 'call = "sweep.py:sweep"'))
    with robot.run() as run:
        frame = run.frame(lambda frame: frame.command["arm"].reason == "raised")
        assert "HOLDING" in frame.command["arm"].flags
        run.signal(signal.SIGINT)
        _, summary = run.end()
    assert summary["policy"]["commands"] == 0
    assert "PermissionError" in run.stderr


ABOVE = (
    SWEEP
    + """
import json, os, sys, threading


def is_refused(priority):
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except PermissionError:
        return True
    return False


asked, of_thread = threading.Event(), []


def early():
    asked.wait()
    of_thread.append(is_refused(21))


at_import = [is_refused(21), is_refused(98)]
thread = threading.Thread(target=early, daemon=True)
thread.start()


class Above(Sweep):
    def __call__(self, frame):
        has = os.sched_getparam(0).sched_priority
        if has and at_import:
            asked.set()
            thread.join()
            in_loop = [*of_thread, is_refused(21), is_refused(98)]
            print("tried", json.dumps([has, *at_import, *in_loop]), file=sys.stderr)
            at_import.clear()
        return super().__call__(frame)


Sweep = Above
"""
)


def _may_be_real_time() -> bool:
    """Whether a process that this one starts may take a SCHED_FIFO priority."""
    take = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))"
    done = subprocess.run([sys.executable, "-c", take], check=False, capture_output=True)
    return done.returncode == 0


@pytest.mark.skipif(not _may_be_real_time(), reason="SCHED_FIFO 20 is not granted here")
def test_a_policy_gets_its_priority_and_takes_no_higher_one(robot: Robot) -> None:
    """While it is imported, in its loop, and in a thread that was there before the loop."""
    with _run(robot, "priority = 20", policy=ABOVE) as run:
        run.frame(lambda frame: "WRITTEN" in frame.command["arm"].flags)
        until(lambda: "tried [" in run.stderr and "]\n" in run.stderr.partition("tried [")[2])
        (line,) = (line for line in run.stderr.splitlines() if line.startswith("tried "))
        assert json.loads(line.removeprefix("tried ")) == [20, True, True, True, True, True]
        scheduler = os.sched_getscheduler(run.child("inphase.policy").pid)
        assert scheduler == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, "its threads are ordinary ones"


def test_a_policy_in_lock_step_has_the_same_walls_where_it_is_isolated(tmp_path: Path) -> None:
    tmp_path.joinpath("reach.py").write_text(
        "import socket\ndef reach(frame):\n    socket.socket()\n"
    )
    described = load(demo_schedule(tmp_path, policy="reach.py:reach"))
    with LockStep(described, isolate=True) as robot:
        robot.run(5)
        assert robot.follower.reader.reasons() == {"raised": 5}


# ---- kernels that grant less -------------------------------------------------------------------


def _has_user_namespaces() -> bool:
    command = ["unshare", "--map-current-user", "true"]
    with contextlib.suppress(FileNotFoundError):
        return not subprocess.run(command, check=False, capture_output=True).returncode
    return False


ALONE = f"""
import ctypes, os, struct, sys

# as a kernel without Landlock: its calls are not known
LIBC = ctypes.CDLL(None, use_errno=True)
unknown, others = (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7FFF0000)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, {_LANDLOCK}), unknown, others]
program = b"".join(struct.pack("<HBBI", *one) for one in code)
filter = ctypes.create_string_buffer(program)
fprog = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(filter))
assert LIBC.prctl(38, 1, 0, 0, 0) == 0
assert LIBC.prctl(22, 2, ctypes.c_char_p(fprog), 0, 0) == 0

from inphase import load
from inphase.policy import sandbox
sandbox.enter(load(sys.argv[1]))
import tries
tries.OTHER = os.getppid()
sys.argv[1:] = [sys.argv[1]] * 3
tries.tell([name for name in tries.TRIES if name not in ("a terminal, to read",)])
"""


def test_without_landlock_less_is_refused_and_it_is_said(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    assert "priority = 60 " in path.read_text()
    tmp_path.joinpath("tries.py").write_text(TRIES)
    tmp_path.joinpath("alone.py").write_text(ALONE)
    ours, theirs = os.openpty()
    environment = {
        "TEST_TERMINAL": os.ttyname(theirs),
        "TEST_FILE": str(tmp_path / "written"),
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "alone.py", str(path)],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    os.close(ours)
    os.close(theirs)
    said, tried = done.stderr.splitlines()
    done_ones = {n for n, w in json.loads(tried.removeprefix("tried ")).items() if w == "done"}
    if os.geteuid() and not _has_user_namespaces():
        assert "a user namespace (" in said and "so it can read the memory" in said
        assert done_ones <= {"another's memory", "another's descriptor"}
    else:
        assert said == (
            "policy: sandbox: not available: Landlock (Function not implemented); it runs without"
        )
        assert done_ones == set()
    assert not tmp_path.joinpath("written").exists() and path.exists()


ORDINARY = f"""
import ctypes, os, struct, sys
from inphase import load
from inphase.policy import sandbox
import tries

described = load(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
LIBC = ctypes.CDLL(None, use_errno=True)
assert LIBC.prctl(4, 1, 0, 0, 0) == 0  # as a program that this user has started
until_here_ends, ours = os.pipe()
tries.OTHER = os.fork()
if not tries.OTHER:
    os.close(ours)
    os.read(until_here_ends, 1)
    os._exit(0)
code = [(0x20, 0, 0, 0)]
for number in {_LANDLOCK}, *map(int, sys.argv[2:]):
    code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050026)]  # its calls are not known
code.append((0x06, 0, 0, 0x7FFF0000))
program = b"".join(struct.pack("<HBBI", *one) for one in code)
filter = ctypes.create_string_buffer(program)
fprog = struct.pack("<HxxxxxxQ", len(code), ctypes.addressof(filter))
assert LIBC.prctl(38, 1, 0, 0, 0) == 0
assert LIBC.prctl(22, 2, ctypes.c_char_p(fprog), 0, 0) == 0
user = os.getuid()
sandbox.enter(described)
assert os.getuid() == user
tries.tell(["another's memory", "another's descriptor"])
"""
_UNSHARE = 272 if os.uname().machine == "x86_64" else 97


def _ordinary(tmp_path: Path, *unknown: int) -> tuple[str, set[str]]:
    """What the sandbox of an ordinary user says without Landlock, and what became of tries."""
    path = demo_schedule(tmp_path)
    tmp_path.joinpath("tries.py").write_text(TRIES)
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY, str(path), *map(str, unknown)],
        cwd=tmp_path,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    said, tried = done.stderr.splitlines()
    return said, set(json.loads(tried.removeprefix("tried ")).values())


@pytest.mark.skipif(not _has_user_namespaces(), reason="user namespaces are refused here")
def test_without_landlock_a_namespace_keeps_the_users_other_processes_closed(
    tmp_path: Path,
) -> None:
    said, tried = _ordinary(tmp_path)
    assert "Landlock" in said and "namespace" not in said
    assert tried <= {"EACCES", "EPERM"}


def test_without_both_other_processes_can_be_read_and_it_is_said(tmp_path: Path) -> None:
    said, tried = _ordinary(tmp_path, _UNSHARE)
    assert "a user namespace (Function not implemented), so it can read the memory" in said
    assert "done" in tried  # the memory; whose file the descriptor leads to may differ


def test_what_is_allowed_has_known_names(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    path.write_text(path.read_text().replace("[policy]", '[policy]\nallow = ["everything"]'))
    with pytest.raises(ScheduleError, match=r"policy\.allow\[0\].*\"network\", \"gpu\""):
        load(path)
