"""Every number that a command prints has its unit beside it, on the terminal and not in the source
alone."""

import ast
import io
import re
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table

import inphase
from inphase.command.cli import cli
from inphase.command.screen import screen
from inphase.episodes.lockstep import LockStep
from peers import ROOT, EmulatorProcess
from robots import demo_schedule
from test_tidy import MODULES

DEMO = str(ROOT / "schedules" / "demo.toml")
IN_BRACKETS = re.compile(r"[\w .]+\[[a-z/]{1,5}\] *")
"""after a word or a space: `[cycle]` alone is a table of a schedule"""
UNITS = {
    "run": ("distributions [us]", "late [us]"),
    "check": ("devices [us]", "a view lasts [ms]", "start us", "takes us", "slack us", "bytes"),
    "probe": ("distributions [us]", "trigger to sample [us]", "cycles of 10 ms"),
    "echo": (" us", " rad", " N", " N m"),
    "knobs": ("latency_ms", "drift_ppm", "inference_ms", "wake_late_ms"),
    "check FILE": ("limit [us]", "worst [us]"),
    "diff": ("timing [us]", " rad", " ns"),
    "fit": ("latency_ms", "inference_ms", "wake_late_ms", "frames of 2 ms"),
}
PRINTED_BY = {
    "pictures.summary_table": "run",
    "check": "check",
    "pictures.probe_report": "probe",
    "recorded.keeping": "check FILE",
}
"""module of the room `command` with units in brackets -> the command that prints its tables"""


def written_in(module: str) -> set[str]:
    """Its strings that end with a unit in brackets."""
    return {
        node.value.strip()
        for node in ast.walk(ast.parse(MODULES[f"inphase.command.{module}"].read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and IN_BRACKETS.fullmatch(node.value)
    }


@cache
def printed(*arguments: str) -> str:
    """What a command writes to a terminal of 120 columns."""
    done = CliRunner().invoke(cli, arguments, env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture
def echoed(tmp_path: Path) -> Iterator[str]:
    """What `echo` writes of a robot that runs."""
    robot = LockStep(inphase.load(demo_schedule(tmp_path)))
    ends = threading.Event()

    def run() -> None:
        while not ends.wait(0.01):
            robot.step()

    runs = threading.Thread(target=run)
    runs.start()
    try:
        yield printed("echo", robot.core.segment.path, "-n", "2")
    finally:
        ends.set()
        runs.join()
        robot.close()


def assert_printed(command: str, text: str) -> None:
    modules = [module for module, by in PRINTED_BY.items() if by == command]
    wanted = {*UNITS[command], *(unit for module in modules for unit in written_in(module))}
    assert [unit for unit in wanted if unit not in text] == []


@pytest.mark.real
def test_run_prints_the_units_of_its_tables(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True)
    assert_printed("run", printed("run", str(path), "--cycles", "100"))


def test_a_run_in_lock_step_prints_neither_zeros_nor_an_empty_table() -> None:
    text = printed("run", "--lockstep", DEMO, "--cycles", "100")
    assert "[us]" in text and "late" not in text
    lines = [line.split("│") for line in text.splitlines() if line.startswith("│")]
    rows = [line for line in lines if len(line) == 10]  # of the distributions
    assert len(rows) >= 4
    assert not [row for row in rows if all(cell.strip() in ("0.0", "-", "") for cell in row[3:])]


@pytest.mark.parametrize("schedule", ["demo", "press", "rig"])
def test_check_prints_the_units_of_its_tables(schedule: str) -> None:
    assert_printed("check", printed("check", str(ROOT / "schedules" / f"{schedule}.toml")))


@pytest.mark.real
def test_probe_prints_the_units_of_its_tables(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path)
    cycle = "rate_hz = 100\nread_deadline_us = 6000\nact_us = 8000\n"
    text = re.sub(r"(?ms)^rate_hz = .*?^act_us = \d+\n", cycle, path.read_text())
    path.write_text(text.replace("max_age_ms = 10", "max_age_ms = 100"))
    with EmulatorProcess("--no-wire-time").start(path):
        assert_printed("probe", printed("probe", str(path), "wrench", "--cycles", "50"))


def test_echo_prints_the_unit_of_every_field(echoed: str) -> None:
    assert_printed("echo", echoed)
    fields = [line for line in echoed.splitlines() if line.startswith("    ")]
    assert fields and all(re.search(r"\d  [A-Za-z].*$", line) for line in fields), echoed


def test_knobs_prints_paths_that_end_in_their_unit() -> None:
    assert_printed("knobs", printed("knobs", DEMO))


def test_commands_of_recordings_print_units(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{seed}.mcap") for seed in "12"]
    for seed, file in zip("12", files, strict=True):
        run = ("run", "--lockstep", DEMO, "--cycles", "50", "--seed", seed, "--record", file)
        printed(*run)
    assert_printed("check FILE", printed("check", files[0]))
    assert_printed("fit", printed("fit", files[0]))
    found = CliRunner().invoke(cli, ["diff", *files], env={"COLUMNS": "120"})
    assert found.exit_code == 13
    assert_printed("diff", found.stdout)


def test_every_module_with_units_in_brackets_is_looked_at() -> None:
    names = {name.removeprefix("inphase.command.") for name in MODULES if ".command." in name}
    assert {name for name in names if written_in(name)} == set(PRINTED_BY)


def test_a_table_prints_brackets_in_its_title_heads_and_cells_as_they_stand() -> None:
    table = Table(title="[us] :warning:")
    table.add_column("late [us]")
    table.add_row("udp[1] [bold]")
    file = io.StringIO()
    screen(file).print(table)
    for text in ("[us] :warning:", "late [us]", "udp[1] [bold]"):
        assert text in file.getvalue()


def test_nothing_prints_a_table_but_by_the_screen() -> None:
    makes = {name for name, path in MODULES.items() if "Console(" in path.read_text()}
    bars = {"inphase.episodes.progress", "inphase.episodes.rollout"}
    assert makes == {"inphase.command.screen", *bars}
