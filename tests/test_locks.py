"""One runtime per device."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inphase import names
from inphase.errors import DeviceError
from inphase.locks import DeviceLock
from peers import open_folder


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with open_folder() as place:
        monkeypatch.setattr(names, "ROOT", place)
        yield names.folder()


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
        "import fcntl, os, struct\nfrom pathlib import Path\nfrom inphase import errors, names\n"
        "from inphase.locks import DeviceLock\nos.setgid(65534)\nos.setuid(65534)\n"
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
