"""The list of all decisions: the dated paragraphs below a page's heading "Decisions"."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
PAGE = "docs/decisions"
MARK = "<!-- the list -->"
PAGES = ("README.md", "*/*.md", "middleware/inphase/*.md")

SECTION = re.compile(r"^## Decisions\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
DATED = re.compile(r"^(?:- )?(\d{4}-\d\d-\d\d)[.:] (.+?)(?=\n\n|\n- |\Z)", re.MULTILINE | re.DOTALL)


class Decision(NamedTuple):
    """One of them: its first sentence stands for it."""

    date: str
    sentence: str
    page: Path
    title: str


def read(root: Path = ROOT) -> list[Decision]:
    """Every decision, the newest first."""
    pages = sorted({path for pattern in PAGES for path in root.glob(pattern)})
    found = [decision for page in pages for decision in _of_page(page, root)]
    return sorted(found, key=lambda decision: decision.date, reverse=True)


def _of_page(path: Path, root: Path) -> Iterator[Decision]:
    text = path.read_text()
    section = SECTION.search(text)
    title = text.partition("\n")[0].removeprefix("# ")
    for date, words in DATED.findall(section[1] if section else ""):
        sentence = re.split(r"\.(?:\*\*)?\s", f"{' '.join(words.split())} ")[0]
        yield Decision(date, sentence.replace("**", ""), path.relative_to(root), title)


def render(decisions: list[Decision]) -> str:
    """A list by date, in MyST."""
    lines = []
    for date in dict.fromkeys(decision.date for decision in decisions):
        lines.append(f"## {date}\n")
        lines += [
            f"- {decision.sentence[0].upper()}{decision.sentence[1:]}."
            f" [{decision.title}](../{decision.page}#decisions)"
            for decision in decisions
            if decision.date == date
        ]
        lines.append("")
    return "\n".join(lines)


def _fill_in(_: Sphinx, name: str, content: list[str]) -> None:
    if name == PAGE:
        content[0] = content[0].replace(MARK, render(read()))


def _always(_: Sphinx, env: object, *__: object) -> list[str]:
    """Read the list's page in every build: any page may have a new decision."""
    return [PAGE]


def setup(app: Sphinx) -> dict[str, bool]:
    """Put the list in its page when that is read."""
    app.connect("source-read", _fill_in)
    app.connect("env-get-outdated", _always)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
