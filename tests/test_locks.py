"""One runtime per device."""

from pathlib import Path

import pytest

from inphase import locks
from inphase.errors import DeviceError
from inphase.locks import DeviceLock


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(locks, "_FOLDER", tmp_path)
    return tmp_path


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
