"""One runtime per device."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase.errors import DeviceError
from inphase.host import locks, store_names
from inphase.host.locks import DeviceLock
from peers import open_folder


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with open_folder() as place:
        monkeypatch.setattr(store_names, "ROOT", place)
        yield store_names.folder()


def test_a_second_runtime_is_refused_with_the_holders_name_until_the_first_is_done() -> None:
    first = DeviceLock("arm", "/dev/ttyX", "robot_one")
    with pytest.raises(DeviceError, match="robot_one"):
        DeviceLock("arm", "/dev/ttyX", "robot_two")
    first.close()
    DeviceLock("arm", "/dev/ttyX", "robot_two").close()


def test_a_lock_leaves_no_file_and_another_address_is_free(folder: Path) -> None:
    first = DeviceLock("arm", "/dev/ttyX", "one")
    other = DeviceLock("arm", "/dev/ttyY", "two")
    first.close()
    other.close()
    assert list(folder.iterdir()) == []


def test_a_file_that_a_dead_holder_left_is_taken_over(folder: Path) -> None:
    first = DeviceLock("arm", "/dev/ttyX", "one")
    left = next(folder.iterdir())
    text = left.read_text()
    first.close()
    left.write_text(text)
    DeviceLock("arm", "/dev/ttyX", "two").close()


def test_two_spellings_of_one_address_are_one_device(tmp_path: Path) -> None:
    port = tmp_path / "ttyX"
    port.touch()
    link = tmp_path / "by-id"
    link.symlink_to(port)
    for one, other in (
        ("udp:localhost:49152", "udp:127.0.0.1:49152"),
        ("udp:127.0.0.1:49152", "udp:127.1:49152"),
        (str(port), str(link)),
        ("udp:no host at all:1", "udp:no host at all:1"),
    ):
        first = DeviceLock("arm", one, "robot_one")
        with pytest.raises(DeviceError, match="robot_one"):
            DeviceLock("arm", other, "robot_two")
        first.close()
    first = DeviceLock("arm", "udp:localhost:49152", "robot_one")
    DeviceLock("arm", "udp:localhost:49153", "robot_one").close()
    first.close()


def test_a_link_that_the_emulator_makes_later_is_locked_by_its_name_and_by_what_it_leads_to(
    tmp_path: Path,
) -> None:
    terminal, link = tmp_path / "terminal", tmp_path / "arm"
    link.symlink_to(tmp_path / "gone")  # what an emulator left that was killed
    first = DeviceLock("arm", str(link), "robot_one", is_made_later=True)
    with pytest.raises(DeviceError, match="robot_one"):
        DeviceLock("arm", str(link), "robot_two", is_made_later=True)
    DeviceLock("arm", str(tmp_path / "gone"), "robot_two").close()
    terminal.touch()
    link.unlink()
    link.symlink_to(terminal)
    first.resolve()
    for later in (False, True):
        for place in (link, terminal):
            with pytest.raises(DeviceError, match=r"robot_one, process \d+, .*runs already; stop"):
                DeviceLock("arm", str(place), "robot_two", is_made_later=later)
    first.close()
    DeviceLock("arm", str(link), "robot_two").close()


def test_files_of_killed_runtimes_are_removed_and_held_ones_stay(folder: Path) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\n"
        "from inphase.host import store_names as names\n"
        f"from inphase.host.locks import DeviceLock\nnames.ROOT = Path({str(folder.parent)!r})\n"
        "DeviceLock('arm', '/dev/ttyX', 'one')\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    (left,) = folder.iterdir()
    held = DeviceLock("arm", "/dev/ttyY", "two")
    (folder / "lock.folder").mkdir()
    locks.clean()
    assert not left.exists() and len(list(folder.iterdir())) == 2
    with pytest.raises(DeviceError, match="two"):
        DeviceLock("arm", "/dev/ttyY", "three")
    held.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system can be mounted by root alone")
def test_a_full_file_system_is_to_be_freed_and_no_lock_to_be_removed(folder: Path) -> None:
    script = (
        "from pathlib import Path\nfrom inphase import errors\n"
        "from inphase.host import store_names as names\n"
        f"from inphase.host.locks import DeviceLock\nnames.ROOT = Path({str(folder.parent)!r})\n"
        "names.folder().mkdir()\n(names.ROOT / 'full').write_bytes(bytes(65536))\n"
        "try: DeviceLock('arm', '/dev/ttyX', 'one')\n"
        "except errors.DeviceError as error: print(error)"
    )
    mount = f"mount -t tmpfs -o size=64k none {folder.parent}"
    command = f'{mount} && exec {sys.executable} -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, "-", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"No space left on device; free space in {folder.parent}" in done.stdout, done.stderr
    assert "remove" not in done.stdout


@pytest.mark.parametrize("what", ["pipe", "folder", "link"])
def test_what_is_no_lock_is_refused_and_holds_nobody_up(folder: Path, what: str) -> None:
    first = DeviceLock("arm", "/dev/ttyX", "one")
    lock = next(folder.iterdir())
    first.close()
    match what:
        case "pipe":
            os.mkfifo(lock)
        case "folder":
            lock.mkdir()
        case "link":
            lock.symlink_to("/dev/zero")
    with pytest.raises(DeviceError, match=r"cannot be locked.*remove it"):
        DeviceLock("arm", "/dev/ttyX", "two")


@pytest.mark.skipif(os.geteuid() != 0, reason="other users can be had by root alone")
def test_another_users_runtime_is_named_and_a_lock_can_be_held_by_its_user_alone(
    folder: Path,
) -> None:
    first = DeviceLock("arm", "/dev/ttyX", "robot_one")
    lock = next(folder.iterdir())
    script = (
        "import fcntl, os, struct\nfrom pathlib import Path\nfrom inphase import errors\n"
        "from inphase.host import store_names as names\n"
        "from inphase.host.locks import DeviceLock\nos.setgid(65534)\nos.setuid(65534)\n"
        f"names.ROOT = Path({str(folder.parent)!r})\n"
        "try: DeviceLock('arm', '/dev/ttyX', 'two')\n"
        "except errors.DeviceError as error: print(error)\n"
        f"fd = os.open({str(lock)!r}, os.O_RDONLY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\nprint('locked', flush=True)\ninput()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdin is not None
        assert "used by robot robot_one" in other.stdout.readline()
        assert other.stdout.readline() == "locked\n"
        first.close()
        DeviceLock("arm", "/dev/ttyX", "robot_three").close()
        lock.write_text("left over")
        DeviceLock("arm", "/dev/ttyX", "robot_four").close()
        other.stdin.write("\n")


def test_a_pseudo_terminals_number_that_is_given_out_again_is_another_device(
    tmp_path: Path,
) -> None:
    master, slave = os.openpty()
    name = os.ttyname(slave)
    first = DeviceLock("arm", name, "robot_one")
    link = tmp_path / "arm"
    link.symlink_to(name)
    with pytest.raises(DeviceError, match="robot_one"):  # the same terminal, by another name
        DeviceLock("arm", str(link), "robot_two")
    os.close(master)
    os.close(slave)
    made = [os.openpty()]
    while os.ttyname(made[-1][1]) != name:  # other processes take numbers too
        assert len(made) < 64
        made.append(os.openpty())
    DeviceLock("arm", name, "robot_two").close()
    DeviceLock("arm", str(link), "robot_two").close()
    first.close()
    for pair in made:
        for fd in pair:
            os.close(fd)
