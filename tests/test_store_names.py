"""Names of stores: who finds a robot, what cannot be put in its place, what a dead one leaves."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase import subscribe
from inphase.episodes.lockstep import LockStep
from inphase.errors import StoreError
from inphase.frames import store
from inphase.frames.store import Segment
from inphase.frames.store_follower import StoreFollower
from inphase.host import store_names
from inphase.schedule import load
from peers import BOUND_S, open_folder
from robots import demo_schedule

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other users can be had by root alone")


@pytest.fixture(autouse=True)
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of /dev/shm."""
    with open_folder() as place:
        monkeypatch.setattr(store_names, "ROOT", place)
        yield place


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[LockStep]:
    with LockStep(load(demo_schedule(tmp_path))) as robot:
        robot.run(3)
        yield robot


@contextlib.contextmanager
def named(robot: LockStep, name: str, gid: int = -1) -> Iterator[store_names.Name]:
    made = store_names.Name(name, robot.core.epoch, [robot.core.segment.fd], gid)
    try:
        yield made
    finally:
        made.close()


def as_user(user: int, root: Path, code: str, *groups: int) -> subprocess.CompletedProcess[str]:
    """Run code as somebody else; it has `names` and `store`."""
    script = (  # imported first: the interpreter's folder may be its user's alone
        "import os\nfrom pathlib import Path\nfrom inphase import errors\n"
        "from inphase.host import store_names as names\n"
        "from inphase.frames import store\n"
        "from inphase.frames.store_follower import StoreFollower\n"
        f"os.setgroups({list(groups)})\nos.setgid({user})\nos.setuid({user})\n"
        f"names.ROOT = Path({str(root)!r})\n{code}"
    )
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)


# ---- finding ------------------------------------------------------------------------------------


def test_a_name_leads_to_the_store_until_it_is_closed(robot: LockStep, root: Path) -> None:
    assert store_names.find("arm") is None
    with named(robot, "arm") as name:
        assert store_names.find("arm") == name.path and store_names.running() == [name.path]
        reader = store.Reader(name.path, from_first=True)
        assert reader.epoch == robot.core.epoch and reader.next(0) == 0
        reader.close()
    assert store_names.find("arm") is None
    assert list(store_names.folder().iterdir()) == []


def test_a_robot_whose_name_is_the_start_of_another_is_another(robot: LockStep) -> None:
    with named(robot, "arm-2"):
        assert store_names.find("arm") is None and store_names.find("arm-2") is not None


def test_two_running_robots_of_one_name_are_both_named_and_none_is_given(
    robot: LockStep, root: Path, tmp_path: Path
) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        "from pathlib import Path\nfrom inphase.host import store_names as names\n"
        "from inphase.frames import store\n"
        f"names.ROOT = Path({str(root)!r})\n"
        "segment = store.Segment.make(8192)\nname = names.Name('arm', 7, [segment.fd])\n"
        "print(name.path, flush=True)\ninput()\n"
    )
    with (
        named(robot, "arm") as ours,
        subprocess.Popen(
            [sys.executable, str(script), "other.toml"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other,
    ):
        assert other.stdout is not None and other.stdin is not None
        theirs = other.stdout.readline().strip()
        assert set(store_names.named("arm")) == {ours.path, theirs}
        for ask in (store_names.find, StoreFollower.of_robot, subscribe):
            with pytest.raises(StoreError, match=r"2 robots named 'arm' run: .*; stop one") as told:
                ask("arm")
            for part in (ours.path, theirs, f"process {other.pid}: other.py other.toml"):
                assert part in str(told.value)
            assert f"process {os.getpid()}: " in str(told.value)
        with subscribe(ours.path) as frames:
            assert frames.layout.epoch == robot.core.epoch
        other.stdin.close()
        other.wait(BOUND_S)
        assert store_names.find("arm") == ours.path


def test_what_a_name_gives_can_be_read_and_not_written(robot: LockStep) -> None:
    ring = Segment.ring(64, 8, 1)
    made = store_names.Name("arm", 1, [robot.core.segment.fd, ring.fd])
    fds = store_names.descriptors(made.path)
    assert len(fds) == 2
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        with pytest.raises(OSError, match=r"Invalid|not permitted"):
            os.ftruncate(fd, 0)
        with pytest.raises(StoreError):
            Segment.map(fd, writes=True)
        os.close(fd)
    made.close()
    ring.close()


def test_a_store_without_a_name_is_found_by_its_path(robot: LockStep) -> None:
    reader = store.Reader(robot.core.segment.path, from_first=True)
    assert reader.next(0) == 0
    reader.close()


# ---- what lies there instead --------------------------------------------------------------------


def spoil(path: Path, what: str) -> None:
    """Put something where a name, a note or a lock would be."""
    match what:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "file":
            path.write_bytes(b"\xff" * 100)
        case "link":
            path.symlink_to("/dev/zero")
        case "large":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        case "dead":
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
                left.bind(str(path))
        case "liar":
            path.write_bytes(b"")
            path.unlink()
            liar = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            liar.bind(str(path))
            liar.listen(8)
            os.utime(path, (0, 0))  # older than what comes, however coarse the clock of files is
            threading.Thread(target=_lie, args=(liar,), daemon=True).start()


def _lie(liar: socket.socket) -> None:
    while True:
        peer, _ = liar.accept()
        with Path("/dev/zero").open("rb") as zeros, peer, contextlib.suppress(BrokenPipeError):
            socket.send_fds(peer, [b"inphase store"], [zeros.fileno()])


@pytest.mark.parametrize("what", ["pipe", "folder", "file", "link", "large", "dead", "liar"])
@pytest.mark.parametrize(
    "name", ["arm.0123456789abcdef", "arm.0123456789abcdef.note", "lock.1", "x"]
)
def test_whatever_lies_there_holds_nobody_up(robot: LockStep, what: str, name: str) -> None:
    with named(robot, "first"):
        pass  # the folder is there
    spoil(store_names.folder() / name, what)
    found = store_names.find("arm")
    assert found is None or what == "liar"
    with pytest.raises(StoreError, match="arm"):
        store.Reader(str(store_names.folder() / "arm.0123456789abcdef"))
    notes = store_names.take_notes("arm")
    assert notes == ([b"\xff" * 100] if what == "file" and name.endswith("note") else [])
    store_names.clean()
    assert (store_names.folder() / name).exists() == (
        what != "dead" and (what, name[-4:]) != ("file", "note")
    )
    with named(robot, "arm") as made:
        if what == "liar" and name == "arm.0123456789abcdef":  # it answers: who does is said
            with pytest.raises(StoreError, match=f"{made.path} .* and .*{name} "):
                store_names.find("arm")
        else:
            assert store_names.find("arm") == made.path


def test_a_folder_in_its_place_is_refused_with_what_to_do(root: Path, robot: LockStep) -> None:
    store_names.folder().symlink_to("/tmp")
    with pytest.raises(StoreError, match="sudo rm -r"):
        store_names.Name("arm", 1, [robot.core.segment.fd])
    store_names.folder().unlink()
    store_names.folder().write_text("a file")
    with pytest.raises(StoreError, match="sudo rm -r"):
        store_names.clean()
    store_names.folder().unlink()
    store_names.folder().mkdir()
    store_names.folder().chmod(0o777)
    with pytest.raises(StoreError, match="others may write"):
        store_names.clean()
    assert store_names.find("arm") is None


# ---- what a dead one leaves ---------------------------------------------------------------------


def test_a_killed_runtimes_name_is_removed_whatever_robot_it_was(
    robot: LockStep, root: Path
) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\n"
        "from inphase.host import store_names as names\n"
        "from inphase.frames.store import Segment\n"
        f"names.ROOT = Path({str(root)!r})\n"
        "names.Name('other', 7, [Segment.make(8192).fd])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with named(robot, "arm") as alive:
        subprocess.run([sys.executable, "-c", script], timeout=BOUND_S, check=False)
        assert len(list(store_names.folder().iterdir())) == 2
        assert store_names.find("other") is None
        assert store_names.clean() == ["other"]
        assert [str(path) for path in store_names.folder().iterdir()] == [alive.path]


def test_a_killed_run_in_lock_step_leaves_nothing(tmp_path: Path, root: Path) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom inphase import load\n"
        "from inphase.host import store_names as names\n"
        "from inphase.episodes.lockstep import LockStep\n"
        f"names.ROOT = Path({str(root)!r})\n"
        f"robot = LockStep(load({str(demo_schedule(tmp_path))!r}))\nrobot.run(5)\n"
        "print(robot.core.segment.path, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=BOUND_S, check=False, capture_output=True, text=True
    )
    assert done.stdout.startswith("/proc/"), done.stderr
    assert list(root.iterdir()) == []


# ---- other users --------------------------------------------------------------------------------

READ = (
    "print(names.find('arm'))\n"
    "reader = store.Reader({path!r}, from_first=True)\n"
    "print(reader.next(0))"
)


@needs_root
def test_two_users_and_two_robots_of_one_name_never_meet(robot: LockStep, root: Path) -> None:
    with named(robot, "arm") as ours:
        theirs = as_user(
            NOBODY,
            root,
            "segment = store.Segment.make(8192)\n"
            "name = names.Name('arm', 1, [segment.fd])\n"
            "print(names.clean(), names.find('arm') == name.path, names.running() == [name.path])\n"
            f"print(names.is_alive({ours.path!r}))\nname.close()",
        )
        assert theirs.stdout.splitlines() == ["[] True True", "False"], theirs.stderr
        refused = as_user(NOBODY, root, READ.format(path=ours.path))
        assert "None" in refused.stdout and "Permission denied" in refused.stderr
        assert store_names.find("arm") == ours.path


@needs_root
def test_another_users_robot_is_named_with_its_user_and_the_key_that_opens_it(
    robot: LockStep, root: Path
) -> None:
    ask = "try: StoreFollower.of_robot('arm')\nexcept errors.StoreError as error: print(error)"
    with named(robot, "arm"):
        done = as_user(NOBODY, root, ask)
        assert "User root has one" in done.stdout and "[store] group" in done.stdout, done.stderr
    assert "start it with: inphase run" in as_user(NOBODY, root, ask).stdout


@needs_root
def test_a_group_that_may_read_finds_the_robot_and_cannot_change_it(
    robot: LockStep, root: Path
) -> None:
    with named(robot, "arm", gid=4242) as name:
        read = as_user(NOBODY, root, READ.format(path=name.path), 4242)
        assert read.stdout.splitlines() == [name.path, "0"], read.stderr
        wrote = as_user(
            NOBODY,
            root,
            f"(fd,) = names.descriptors({name.path!r})\n"
            "try: os.open(f'/proc/self/fd/{fd}', os.O_RDWR)\n"
            "except OSError as error: print(error.strerror)\n"
            f"try: os.unlink({name.path!r})\nexcept OSError as error: print(error.strerror)",
            4242,
        )
        assert wrote.stdout.splitlines() == 2 * ["Permission denied"], wrote.stderr


@needs_root
def test_a_folder_that_another_user_took_is_refused_with_a_sentence(root: Path) -> None:
    folder = store_names.folder(NOBODY)
    folder.mkdir(0o755)
    done = as_user(
        NOBODY,
        root,
        "try: names.Name('arm', 1, [])\nexcept errors.StoreError as error: print(error)",
    )
    assert "user 0 made it" in done.stdout and "sudo rm -r" in done.stdout, done.stderr
