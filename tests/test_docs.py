"""The tutorials and the how-to pages do what they say."""

import re
import shutil
import socket
from pathlib import Path

import pytest

import robots
from inphase import errors
from inphase.runtime import summary
from page_runner import PageRunner, assert_lines, patient
from peers import ROOT, free_port, open_folder

DOCS = ROOT / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))


# what a loaded machine keeps as well
SLOWER = {
    "rate_hz = 500": "rate_hz = 125",
    "read_deadline_us = 1300": "read_deadline_us = 5200",
    "act_us = 1700": "act_us = 6800",
    "max_age_ms = 10": "max_age_ms = 1000",
}


def lay_schedules(folder: Path) -> dict[str, str]:
    """The demo, slower, with ports and a name of its own; the words of pages that change so."""
    schedules = folder / "schedules"
    shutil.copytree(ROOT / "schedules", schedules)
    made = robots.demo_schedule(schedules, emulator=True, gateway=True)
    text = patient(made.read_text())
    for quick, slow in SLOWER.items():
        assert quick in text
        text = text.replace(quick, slow)
    (schedules / "demo.toml").write_text(text)
    name = re.findall(r'^name = "(\w+)"', text, re.MULTILINE)[0]
    return {
        "inphase echo": f"inphase echo {name}",
        "demo: 500": f"{name}: 500",
        '"robot": "demo"': f'"robot": "{name}"',
        "127.0.0.1:5570": f"127.0.0.1:{free_port(socket.SOCK_STREAM)}",
        "p99 = 300_000": "p99 = 10**12",  # nobody promises a loaded machine's figures
    }


@pytest.mark.real
@pytest.mark.long
@pytest.mark.parametrize("page", [*TUTORIALS, *HOW_TO], ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path) -> None:
    with open_folder("docs-") as folder, PageRunner(folder, lay_schedules(folder)) as runner:
        runner.play(page)


@pytest.mark.parametrize("output", ["one 3\ntwo\n", "two\none\n", "one\n", ""])
def test_an_output_that_is_not_the_pages_is_noticed(output: str) -> None:
    assert_lines("one\n... two\n", "one\nand two\n")
    with pytest.raises(AssertionError):
        assert_lines("one\n... two\n", output)


def test_a_block_that_nothing_runs_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint()\n```\n")
    with PageRunner(tmp_path) as runner, pytest.raises(ValueError, match="nothing is done"):
        runner.play(page)


def test_the_page_of_the_summary_has_every_exit_code() -> None:
    page = (DOCS / "how-to" / "read-a-summary.md").read_text()
    codes = {kind.exit_code for kind in vars(errors).values() if hasattr(kind, "exit_code")}
    codes |= {summary.EXIT_POLICY, summary.EXIT_LATCHED, summary.EXIT_STALLED}
    assert {f"| {code} |" for code in codes} <= set(re.findall(r"^\| \d+ \|", page, re.MULTILINE))
