"""What a runtime leaves behind that was killed: no process, no address in use, no folder."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from inphase import schedule
from inphase.host import machine
from inphase.host.scratch import Scratch
from peers import BOUND_S, until
from robots import demo_schedule


def folders(name: str = "policy") -> set[Path]:
    """The temporary folders of that name."""
    return set(Path(tempfile.gettempdir()).glob(f"inphase-scratch-{name}-*"))


def start(path: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "inphase", "run", str(path), "--json", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def has_ended(process: psutil.Process) -> bool:
    """Whether it has, whoever is to reap it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.real
def test_a_killed_runtime_leaves_no_process_and_the_next_start_works_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = demo_schedule(tmp_path, emulator=True, gateway=True)
    first = start(path)
    runtime = psutil.Process(first.pid)
    modules = ["inphase_drivers.emulator", "inphase.runtime.gateway", "inphase.policy", "_guard"]

    def children() -> list[psutil.Process]:
        found = runtime.children(recursive=True)
        words = [" ".join(child.cmdline()) for child in found]
        return found if all(any(m in text for text in words) for m in modules) else []

    until(lambda: bool(children()))
    assert folders()
    left = children()
    emulator = next(child for child in left if modules[0] in child.cmdline())
    if machine.look(schedule.load(path)).fifo_error is None:
        until(lambda: os.sched_getparam(emulator.pid).sched_priority == 70)
    first.send_signal(signal.SIGKILL)
    second = start(path, "--cycles", "100")
    out, errors = second.communicate(timeout=3 * BOUND_S)
    assert second.returncode == 0, errors
    assert json.loads(out)["cycles"] == 100
    until(lambda: all(has_ended(child) for child in left))
    assert not folders(), "the next start removes the folder of the one that was killed"
    first.communicate(timeout=BOUND_S)


def test_a_folder_is_removed_when_nobody_has_it_any_more_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others run on this machine
    kept = Scratch("test")
    left = Path(tempfile.mkdtemp(prefix="inphase-scratch-test-"))
    (left / "file").write_text("of a runtime that was killed")
    link = tmp_path / "inphase-scratch-test-abcdefgh"
    link.symlink_to("/")
    foreign = {link, tmp_path / "inphase-test-abcdefgh", tmp_path / "inphase-scratch-test-of-mine"}
    for folder in foreign - {link}:
        folder.mkdir()
    other = Scratch("test")
    assert not left.exists() and Path(kept.path).is_dir() and link.is_symlink()
    other.close()
    kept.close()
    assert set(tmp_path.iterdir()) == foreign
