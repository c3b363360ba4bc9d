"""The audit log: what is found, what a crash leaves, what a full disk or queue costs."""

import datetime
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inphase.access.audit import chain, files, verdict
from inphase.access.audit.chain import ChainHead
from inphase.access.audit.files import FILE
from inphase.access.audit.log import AuditLog
from inphase.errors import AccessError

AT = datetime.datetime(2026, 11, 30, 22, 15, tzinfo=datetime.UTC)


def whats(folder: Path) -> list[str]:
    """What the lines of a log say."""
    return [entry["what"] for entry in verdict.of(folder, last=10_000).last]


def small_log(count: int) -> bytes:
    """A small log."""
    head, text = ChainHead(), b""
    for number in range(count):
        line = chain.line_of(head, AT, "lease asked", {"who": f"user {number}", "s": number})
        head, text = chain.after(head, line), text + line
    return text


TEXT = small_log(5)


# ---- the chain -----------------------------------------------------------------------------------


@given(st.integers(0, len(TEXT) - 1), st.integers(1, 255))
def test_any_change_of_any_byte_is_found_in_its_line(
    tmp_path_factory: pytest.TempPathFactory, at: int, change: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    text = bytearray(TEXT)
    text[at] ^= change
    path.write_bytes(text)
    trouble = chain.read(path).trouble
    assert trouble is not None
    assert trouble.line == 1 + TEXT[:at].count(b"\n")
    assert trouble.offset == TEXT.rfind(b"\n", 0, at) + 1


@given(st.integers(0, len(TEXT) - 1), st.integers(1, len(TEXT)), st.binary(max_size=20))
def test_bytes_that_are_taken_out_or_put_in_are_found(
    tmp_path_factory: pytest.TempPathFactory, at: int, size: int, new: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "spliced.jsonl"
    text = TEXT[:at] + new + TEXT[at + size :]
    path.write_bytes(text)
    found = chain.read(path)
    whole_lines = TEXT.startswith(text) and text[-1:] in (b"", b"\n")
    assert (found.trouble is None) == whole_lines
    assert found.head.lines <= 5


def test_lines_that_were_taken_from_the_end_are_found_by_a_hash_that_was_noted(
    tmp_path: Path,
) -> None:
    with AuditLog(tmp_path) as log:
        for what in ("one", "two", "three"):
            log.note(what)
    noted = verdict.of(tmp_path).verdict.head.hash
    assert verdict.of(tmp_path, noted).exit_code == 0
    lines = (tmp_path / FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / FILE).write_bytes(b"".join(lines[:2]))
    found = verdict.of(tmp_path, noted)
    assert (found.verdict.trouble, found.exit_code) == (None, 16)
    assert found.lines()[-1].endswith("is not there: lines were taken away")


def test_facts_of_any_size_and_kind_give_a_bounded_line(tmp_path: Path) -> None:
    facts = {f"fact {n}": "\U0001f916" * 100_000 for n in range(30)}
    with AuditLog(tmp_path) as log:
        log.note("much", **facts)
        log.note("odd", nan=float("nan"), big=1 << 70, path=tmp_path, none=None, quote='"\n\\')
    much, odd = verdict.of(tmp_path, last=2).last
    assert len(much) == 3 + 16 + 1
    assert odd["quote"] == '"\n\\' and odd["none"] is None and odd["big"] == str(1 << 70)
    assert max(map(len, (tmp_path / FILE).read_bytes().splitlines())) < chain.LINE_BYTES


# ---- crashes, and a log that is there ------------------------------------------------------------


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for what in ("one", "two"):
        with AuditLog(tmp_path) as log:
            log.note(what)
    assert whats(tmp_path) == ["one", "two"]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_log_that_was_cut_at_any_byte_goes_on_and_says_so(tmp_path: Path) -> None:
    for size in range(TEXT.rindex(b"\n", 0, -1) + 1, len(TEXT) + 1):
        (tmp_path / FILE).write_bytes(TEXT[:size])
        (tmp_path / FILE).chmod(0o600)
        with AuditLog(tmp_path) as log:
            log.note("again")
        *_, before, last = verdict.of(tmp_path, last=3).last
        assert verdict.of(tmp_path).verdict.trouble is None
        assert last["what"] == "again"
        cut = TEXT[TEXT.rindex(b"\n", 0, -1) + 1 : size]
        if cut and size < len(TEXT):
            assert before["what"] == "a cut last line was taken away"
            assert before["text"] == cut.decode()
        else:
            assert before["what"] == "lease asked"


def test_a_log_that_does_not_fit_is_kept_and_its_remedy_works(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(TEXT.replace(b"user 2", b"user 9"))
    path.chmod(0o600)
    with pytest.raises(AccessError, match=rf"{FILE}:3: its hash is not .*: mv ") as refused:
        AuditLog(tmp_path)
    assert path.read_bytes() == TEXT.replace(b"user 2", b"user 9")
    subprocess.run(str(refused.value).rpartition("anew: ")[2].split(), check=True)
    with AuditLog(tmp_path) as log:
        log.note("anew")
    assert whats(tmp_path) == ["anew"]


def test_a_log_has_one_writer(tmp_path: Path) -> None:
    with AuditLog(tmp_path), pytest.raises(AccessError, match="another process writes it"):
        AuditLog(tmp_path)


@pytest.mark.real
def test_what_was_flushed_before_a_kill_is_there(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from inphase.access.audit.log import AuditLog\n"
        "log, n = AuditLog(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    log.note('beat', beat=n); log.flush(); print(n, flush=True); n += 1"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    flushed = [int(child.stdout.readline()) for _ in range(20)]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with AuditLog(tmp_path):
        pass
    found = verdict.of(tmp_path, last=10_000)
    assert found.verdict.trouble is None
    assert [entry.get("beat") for entry in found.last][:20] == flushed


# ---- several files -------------------------------------------------------------------------------


def long_log(folder: Path, lines: int) -> None:
    """A log whose files have about 13 lines each."""
    with AuditLog(folder, file_bytes=2_000) as log:
        for number in range(lines):
            log.note("line", of=number)
            log.flush()


def test_a_log_that_grows_goes_on_in_files_of_one_chain_and_drops_the_oldest(
    tmp_path: Path,
) -> None:
    for lines in (30, 1, 300):  # each time it is opened anew
        long_log(tmp_path, lines)
        found = verdict.of(tmp_path, last=10_000)
        assert found.verdict.trouble is None
        numbers = [entry["n"] for entry in found.last]
        assert numbers == list(range(found.first, found.verdict.head.lines))
        if lines == 30:
            assert found.first == 0 and len(files.all_of(tmp_path)) == 3
    kept = files.all_of(tmp_path)
    assert len(kept) == files.FILES and found.first > 200
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
    assert sum(path.stat().st_size for path in kept) < files.FILES * 2_400
    seen = [entry["of"] for entry in found.last if entry["what"] == "line"]
    assert seen == list(range(300 - len(seen), 300))
    first, *_, last = [entry for entry in found.last if entry["what"] == "continued"]
    assert (first["n"], last["kept_from"]) == (found.first, found.first)
    assert f"{found.first} older lines were dropped" in "\n".join(found.lines())


def test_a_file_that_is_taken_away_or_changed_is_found(tmp_path: Path) -> None:
    long_log(tmp_path, 60)
    kept = files.all_of(tmp_path)
    assert len(kept) > 4 and verdict.of(tmp_path).exit_code == 0
    for number, path in enumerate(kept[:-1]):
        aside = path.rename(tmp_path / "aside")
        found = verdict.of(tmp_path)
        assert found.exit_code == 16 and found.verdict.trouble is not None
        assert found.path == kept[number + 1]  # the first that has nothing to follow
        aside.rename(path)
        text = path.read_bytes()
        path.write_bytes(text[:-10])
        found = verdict.of(tmp_path)
        assert (found.path, found.verdict.is_cut, found.exit_code) == (path, False, 16)
        path.write_bytes(text)
    kept[-1].unlink()  # the newest: as lines that are taken from the end
    assert verdict.of(tmp_path).verdict.trouble is None


def test_a_crash_between_two_files_leaves_a_log_that_goes_on(tmp_path: Path) -> None:
    long_log(tmp_path, 15)
    newest = tmp_path / FILE
    for step in range(3):
        (tmp_path / f"{FILE}.new").write_bytes(b'{"n":')  # the next file was being written
        if step > 0:  # and the last one has its later name
            newest.rename(tmp_path / f"audit-{chain.beginning(newest).lines:019d}.jsonl")
        if step > 1:  # and nothing is in the next one yet
            newest.touch(0o600)
        with AuditLog(tmp_path) as log:
            log.note("after", step=step)
        found = verdict.of(tmp_path, last=100)
        assert found.verdict.trouble is None and found.first == 0
        assert found.last[-1]["step"] == step
    assert [entry["of"] for entry in found.last if entry["what"] == "line"] == list(range(15))


def test_a_file_that_cannot_be_followed_goes_on_to_twice_its_size(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.new").mkdir()  # a new file cannot be made
    long_log(tmp_path, 100)
    path = tmp_path / FILE
    assert 4_000 <= path.stat().st_size < 4_400
    found = verdict.of(tmp_path, last=100)
    assert found.verdict.trouble is None and files.all_of(tmp_path) == [path]
    (tmp_path / f"{FILE}.new").rmdir()
    long_log(tmp_path, 1)
    found = verdict.of(tmp_path, last=100)
    assert found.verdict.trouble is None and len(files.all_of(tmp_path)) == 2


# ---- nobody waits --------------------------------------------------------------------------------


def test_what_a_full_disk_does_not_take_is_counted_in_the_chain(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from inphase.access.audit.log import AuditLog\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with AuditLog(Path(sys.argv[1])) as log:\n"
        "    log.note('before'); log.flush()\n"
        "    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))\n"
        "    for n in range(50): log.note('lost', of=n, text='x' * 400)\n"
        "    log.flush()\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
        "    log.note('after'); log.flush(); print(log.dropped)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "50\n"
    found = verdict.of(tmp_path, last=10)
    assert found.verdict.trouble is None and found.dropped == 50
    assert [entry["what"] for entry in found.last] == ["before", "dropped", "after"]


def test_what_comes_faster_than_it_can_be_written_is_dropped_and_counted(tmp_path: Path) -> None:
    noted = 0
    with AuditLog(tmp_path) as log:
        while log.dropped == 0:
            log.note("much", of=noted)
            noted += 1
        log.flush()
        log.note("after")
        dropped = log.dropped
    found = verdict.of(tmp_path, last=noted + 10)
    numbers = [entry["n"] for entry in found.last]
    assert numbers == list(range(len(numbers)))
    seen = [entry["of"] for entry in found.last if entry["what"] == "much"]
    assert found.dropped == dropped and len(seen) + dropped == noted
    assert seen == sorted(seen)


def test_the_verdict_is_told_by_its_command(tmp_path: Path) -> None:
    def ask(*options: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "inphase", "audit", str(tmp_path), *options]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    assert ask().returncode == 16
    assert "name the folder of a service that has run" in ask().stderr
    (tmp_path / FILE).write_bytes(TEXT)
    done = ask("--json", "-n", "2")
    facts = json.loads(done.stdout)
    assert (done.returncode, facts["lines"], len(facts["last"])) == (0, 5, 2)
    assert facts["hash"] in ask().stdout
    assert ask("--has", facts["hash"]).returncode == 0
    assert ask("--has", "0" * 64).returncode == 16
    (tmp_path / FILE).write_bytes(TEXT.replace(b"user 2", b"user 9"))
    done = ask()
    assert done.returncode == 16
    third = len(b"".join(TEXT.splitlines(keepends=True)[:2]))
    assert f"line 3 (byte {third}) does not fit: its hash is not that of" in done.stdout
