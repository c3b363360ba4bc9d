"""Plays a page of docs/ as its reader does: writes its files, runs its commands, compares outputs.

A fenced block is one of these; any other raises ValueError:

    {code-block} with a file's name as caption    written, or added "FILE, at its end"
    sh                                            run by bash where the one before it ended
    {code-block} sh, "in one terminal"            started; it has to end by itself
    {code-block} sh, "in another terminal"        run meanwhile, once the robot is there
    {code-block} sh, "once"                       the set-up, which was done
    text                                          lines of the output, in order; `...` is anything
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from peers import BOUND_S, until

FENCE = re.compile(
    r"^(```+)(?:\{code-block\} )?(?P<language>\w+)\n(?::caption: (?P<caption>[^\n]+)\n\n)?"
    r"(?P<text>.*?)^\1$",
    re.MULTILINE | re.DOTALL,
)
SET_UP = "make .venv/installed\n. .venv/bin/activate\n"
NOT_YET = ("no robot", "no frame came in time")  # of a robot that starts on a loaded machine
AT_ITS_END = ", at its end"
# a loaded machine is no reason for the core, the guard or a watchdog to stop an emulated arm
PATIENT_CYCLE = "[cycle]\nresumed_after_ms = 20_000\noverrun_limit = 1_000_000\n"
PATIENT_GUARD = "[guard]\nmax_hold_ms = 20_000\n"
PATIENT_ARM = 'driver = "dynamixel"\nwatchdog_ms = 0\n'


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    caption: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks that a reader writes, runs or compares."""
    return [
        Block(found["language"], found["caption"] or "", found["text"])
        for found in FENCE.finditer(page.read_text())
    ]


class PageRunner:
    """Plays pages in a folder with a short path; use it with `with`.

    changes: words of pages that are others here, such as a robot's name.
    """

    def __init__(self, folder: Path, changes: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.here = folder
        self.output = ""
        self.changes = {**(changes or {}), "/tmp/inphase-": f"{folder}/"}
        self.started: list[subprocess.Popen[str]] = []
        folder.joinpath(".venv").symlink_to(sys.prefix)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "COLUMNS": "100"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            process.kill()
            process.communicate()

    def play(self, page: Path) -> int:
        """Do all that a page says; how many of its blocks were run or compared.

        Raises AssertionError where a command fails or says something else.
        """
        played = [self._play(block) for block in blocks(page)]
        for process in self.started:
            output, _ = process.communicate(timeout=BOUND_S)
            assert process.returncode == 0, output
        self.started.clear()
        return sum(played)

    def _play(self, block: Block) -> bool:
        text = self._local(block.text)
        if block.language == "text":
            assert_lines(text, self.output)
        elif block.language == "sh" and block.caption == "once":
            assert block.text == SET_UP
            return False
        elif block.language == "sh" and block.caption == "in one terminal":
            self.started.append(self._start(text))
        elif block.language == "sh":
            until(lambda: self._has_run(text, meanwhile="another" in block.caption))
        elif block.caption:
            self._write(block.caption, text)
            return False
        else:
            raise ValueError(f"nothing is done with this block: {block.text}")
        return True

    def _start(self, script: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-ec", script],
            cwd=self.here,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _has_run(self, script: str, meanwhile: bool) -> bool:
        """Whether it ran; meanwhile: or is to be run again, because the robot is not there yet."""
        where = self.folder / ".where"
        process = self._start(f"{script}\npwd > {where}")
        self.output, _ = process.communicate(timeout=10 * BOUND_S)
        if meanwhile and any(words in self.output for words in NOT_YET):
            return False
        assert process.returncode == 0, f"{script}\n{self.output}"
        self.here = Path(where.read_text().strip())
        for path in self.here.glob("*.toml"):
            path.write_text(patient(self._local(path.read_text())))
        return True

    def _write(self, caption: str, text: str) -> None:
        path = self.here / caption.removesuffix(AT_ITS_END)
        before = path.read_text() + "\n" if caption.endswith(AT_ITS_END) else ""
        path.write_text(patient(before + text) if path.suffix == ".toml" else before + text)

    def _local(self, text: str) -> str:
        for word, here in self.changes.items():
            text = text.replace(word, here)
        return text


def patient(schedule: str) -> str:
    """A schedule that a loaded machine runs as well; one that is already is left as it is."""
    if "resumed_after_ms" in schedule or "for a busy machine" in schedule:
        return schedule
    guard = "" if "[guard]" in schedule else PATIENT_GUARD
    schedule = schedule.replace("[cycle]\n", guard + PATIENT_CYCLE, 1)
    return schedule.replace('driver = "dynamixel"\n', PATIENT_ARM)


def assert_lines(expected: str, output: str) -> None:
    """Each line is found in the output, in order, whatever stands between them."""
    rest = iter(output.splitlines())
    for line in expected.splitlines():
        pattern = re.compile(r"\s+".join(_words(line)))
        assert any(pattern.fullmatch(said.strip()) for said in rest), f"{line}\n\nnot in\n{output}"


def _words(line: str) -> Iterator[str]:
    for word in line.split():
        yield re.escape(word).replace(re.escape("..."), ".*")
