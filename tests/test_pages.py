"""The pages hold what the code holds, in sentences that are short.

Each list of exceptions fails when an entry is no longer needed.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import ROOT
from test_tidy import LEVEL

SKIPPED = {
    ".git",
    ".venv",
    "build",
    "_build",
    ".hypothesis",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
}
HISTORY = {"CHANGELOG.md"}  # names files that are gone
WORDS_MAX = 25
LONG: dict[str, int] = {}
"""page -> its sentences over WORDS_MAX"""
NOT_OURS = {
    "allowed.toml",
    "server.toml",
    "ann.key.toml",
    "example_policy.py",
    "test_example_policy.py",
    "range_finder.py",
    "range_finder.toml",
    "range_finder_emulator.py",
    "test_controller.py",
    "test_range_finder.py",
}
"""files that a page names and that its reader writes, or makes with `inphase new` or `keys`"""


def tree() -> Iterator[Path]:
    """Every file of the checkout, as a path from its root."""
    for path in sorted(ROOT.rglob("*")):
        inside = path.relative_to(ROOT)
        if path.is_file() and not SKIPPED & set(inside.parts):
            yield inside


FILES = list(tree())
PAGES = [path for path in FILES if path.suffix == ".md" and path.name not in HISTORY]
SOURCES = [
    path
    for path in FILES
    if path.suffix == ".py" and path.parts[0] in ("middleware", "drivers", "schedules")
]
CLAUSE = re.compile(r"[*(\"]*(What|Whatever|Whether|Whoever|Who)\b(?!.*\?$)")
"""a sentence that begins with one has it as its subject, unless it is a question"""
TOUR = (ROOT / "middleware" / "README.md").read_text()
HEADER = (ROOT / "native" / "inphase.h").read_text()


def prose(page: Path) -> str:
    """The page without its code blocks."""
    text = (ROOT / page).read_text()
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def sentences(text: str) -> list[str]:
    """Its sentences; a table, a heading and a picture have none, an item begins one."""
    text = re.sub(r"^ *(\||#|!\[).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^( *)([-*>]|\d+\.) ", r"\n\n", text, flags=re.MULTILINE)
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return [
        sentence
        for block in blocks
        for sentence in re.split(r"(?<=[.!?])[*\")]*\s+", block)
        if sentence
    ]


def words(sentence: str) -> int:
    """How many; a piece of code is one."""
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def section(heading: str) -> str:
    """A section of the tour."""
    return TOUR.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def drawing(heading: str) -> str:
    """The first code block of a section of the tour."""
    return section(heading).split("```\n", 2)[1]


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table of a section of the tour, without its head."""
    table = re.search(r"(?:^\|.*\n)+", section(heading), re.MULTILINE)
    assert table is not None
    lines = table[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def cells(text: str) -> Iterator[str]:
    """The sentences in its tables."""
    for row in re.findall(r"^ *\|(.*)\|$", text, re.MULTILINE):
        for cell in re.split(r"(?<!\\)\|", row):
            yield from sentences(cell)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_sentence_in_a_table_has_25_words_at_most(page: Path) -> None:
    assert not [one for one in cells(prose(page)) if words(one) > WORDS_MAX]


@pytest.mark.parametrize("page", [*PAGES, *map(Path, HISTORY)], ids=str)
def test_a_sentence_has_25_words_at_most(page: Path) -> None:
    long = [sentence for sentence in sentences(prose(page)) if words(sentence) > WORDS_MAX]
    assert len(long) == LONG.get(str(page), 0), "\n".join(long)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_row_of_a_table_has_as_many_cells_as_its_head(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        cells = [len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()]
        assert len(set(cells)) == 1, table


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_sentence_begins_with_a_clause_as_its_subject(page: Path) -> None:
    assert not [sentence for sentence in sentences(prose(page)) if CLAUSE.match(sentence)]


def docstrings(path: Path) -> Iterator[str]:
    """Of a module, its classes and functions, and its fields."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield inspect.cleandoc(str(node.value.value))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_docstring_has_a_clause_as_a_subject(path: Path) -> None:
    said = (sentence for text in docstrings(path) for sentence in sentences(text))
    assert not [sentence for sentence in said if CLAUSE.match(sentence)]


def names_of_files(page: Path) -> set[str]:
    """The files that a page names, outside of its code blocks."""
    return set(re.findall(r"`([\w./-]+\.(?:c|py|h|md|toml))`", prose(page)))


def exists(name: str) -> bool:
    """A file of the checkout has this name, or this end of a path."""
    return any(f"/{path.as_posix()}".endswith(f"/{name}") for path in FILES)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_file_that_a_page_names_exists(page: Path) -> None:
    assert not [name for name in names_of_files(page) - NOT_OURS if not exists(name)]


def test_a_name_of_the_core_that_a_page_gives_exists() -> None:
    source = HEADER + "".join(
        path.read_text() for path in (ROOT / "native" / "src").iterdir() if path.is_file()
    )
    source += (ROOT / "middleware/inphase/gate/pytest_plugin.py").read_text()  # its fixtures
    named = {
        name
        for page in PAGES
        for name in re.findall(r"`((?:inphase|INPHASE)_(?!drivers|TEST)\w+)", prose(page))
    }
    assert len(named) > 5
    assert not [name for name in named if name not in source]


def test_a_function_that_the_tour_names_exists() -> None:
    named = set(
        re.findall(r"`(?:[a-z]+\.)?([a-z]+(?:_[a-z]+)+)`", prose(Path("middleware/README.md")))
    )
    assert {"cycle_run", "of_device", "write_command"} <= named
    core = [path for path in FILES if path.parts[0] == "native" and path.suffix in (".c", ".h")]
    source = "".join((ROOT / path).read_text() for path in [*core, *SOURCES])
    assert not [name for name in named if not re.search(rf"\b{name}\b", source)]


def test_no_exception_is_left_that_nothing_needs() -> None:
    named = set().union(*(names_of_files(page) for page in PAGES))
    assert not [name for name in NOT_OURS if name not in named or exists(name)]
    assert set(LONG) <= {str(page) for page in PAGES}


def test_every_file_of_the_core_is_named_by_a_page() -> None:
    named = {Path(name).name for page in PAGES for name in names_of_files(page)}
    assert {path.name for path in (ROOT / "native" / "src").glob("*.c")} <= named


def test_a_word_of_the_glossary_stands_once_in_order_and_is_used() -> None:
    glossary = [row[0] for row in rows("Words")]
    assert glossary == sorted(set(glossary)) and 20 < len(glossary) < 40
    rest = TOUR.replace(section("Words"), "") + "".join(
        prose(page) for page in PAGES if page != Path("middleware/README.md")
    )
    assert not [word for word in glossary if not re.search(rf"\b{word}", rest, re.IGNORECASE)]


def test_a_word_that_a_first_page_introduces_stands_in_the_glossary() -> None:
    first = "".join(
        prose(Path(page)) for page in ("README.md", "docs/index.md", "drivers/README.md")
    )
    introduced = set(re.findall(r"(?<!\*)\*([a-z]+)\*(?!\*)", first)) - {"uncontrolled"}  # a state
    assert introduced >= {"schedule", "frame", "exchange"}
    drawn = {writer for writer, *_ in memory()} - {"cycle thread"}
    assert introduced | drawn <= {row[0] for row in rows("Words")}


def memory() -> list[tuple[str, str, list[str]]]:
    """The drawing's pieces of memory: who writes it, the function that makes it, who reads it."""
    found: list[tuple[str, str, str]] = []
    for line in drawing("Processes and memory").splitlines()[2:]:
        begins = re.fullmatch(r" (\w[\w ]*) -+>  (\w+) .*-> (.*)", line)
        if begins is not None:
            found.append((begins[1], begins[2], begins[3]))
        else:  # more of the last one's content and readers
            assert line.startswith(" " * 48), line
            found[-1] = (*found[-1][:2], f"{found[-1][2]} {line[71:]}")
    return [(writer, maker, re.findall(r"\w[\w ]*\w", readers)) for writer, maker, readers in found]


def test_the_drawing_of_memory_has_every_segment_that_the_core_makes() -> None:
    makes = set(re.findall(r"^int (inphase_\w+_make)\(inphase_segment \*\*", HEADER, re.MULTILINE))
    drawn = [maker for _, maker, _ in memory()]
    assert set(drawn) - {"inphase_core_guard"} == makes
    assert drawn.count("inphase_core_guard") == 2  # two pages
    assert "inphase_core_guard(" in HEADER


def test_every_process_of_the_drawing_is_in_the_table_and_every_entry_exists() -> None:
    table = {row[0]: row[1] for row in rows("Threads and processes")}
    assert {name for writer, _, readers in memory() for name in (writer, *readers)} <= set(table)
    package = ROOT / "middleware" / "inphase"
    entries = {
        module
        for path in package.rglob("*.py")
        for module in re.findall(r"^ *python -m (inphase\.[\w.]+) [A-Z]", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(inphase\.[\w.]+)`", " ".join(table.values())))
    assert named == entries - {"inphase.host.child"}  # which runs any of them


def test_the_drawing_of_a_cycle_has_the_stages_of_the_core_in_order() -> None:
    source = (ROOT / "native" / "src" / "cycle.c").read_text()
    run = re.search(r"^bool cycle_run\(.*?^}", source, re.MULTILINE | re.DOTALL)
    assert run is not None
    stages = re.findall(r"\bstage_(\w+)\(", run[0])
    (line,) = re.findall(r"^  \|--.*$", drawing("One cycle in time"), re.MULTILINE)
    assert [word for word in re.split(r"[-|\s.]+", line) if word] == stages


def test_the_drawing_of_rooms_has_the_levels_that_are_kept() -> None:
    drawn = {
        room: int(level)
        for level, names in re.findall(r"^ +(\d+) +(.*)$", drawing("Rooms"), re.MULTILINE)
        for room in re.sub(r"\(.*\)", "", names).split()
    }
    assert drawn == LEVEL
    assert [row[0] for row in rows("Rooms")] == [f"`{room}/`" for room in LEVEL]
