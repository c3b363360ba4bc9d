"""The generated reference has everything: keys, the header's names and comments, decisions."""

import re
import runpy
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sphinx.util.matching import get_matching_files

import c_header
import decisions
import inphase
import schedule_keys
from inphase import schedule
from inphase._core import ffi, lib
from inphase.schedule import expected
from inphase.schedule.tables import Tables
from peers import ROOT
from test_pages import PAGES
from test_tidy import FACES, GROUND


def test_a_wrong_word_is_answered_by_those_that_a_key_takes() -> None:
    for table in schedule_keys.walk(Tables):
        for key in table.keys:
            words = re.findall(r'"\w+"', schedule_keys.value_of(key))
            told = expected.meaning((*table.name.replace("[]", "").split("."), key.name))
            assert all(word in told for word in words), f"{table.name}.{key.name}: {words}"


def test_every_key_of_a_schedule_has_a_meaning() -> None:
    for cls in (Tables, *schedule_keys.drivers().values()):
        for table in schedule_keys.walk(cls):
            assert not [f"{table.name}.{key.name}" for key in table.keys if not key.meaning]
    assert not [key.name for key in schedule_keys.keys(schedule_keys.SHAPE) if not key.meaning]


def test_every_key_that_a_schedule_uses_is_in_the_reference() -> None:
    page = schedule_keys.render_tables()
    anchors = set(re.findall(r"\{#([\w-]+)\}", page))
    for path in sorted((ROOT / "schedules").glob("*.toml")):
        assert schedule.load(path)
        for key in keys_of(tomllib.loads(path.read_text())):
            assert key in anchors, f"{path}: {key}"


def keys_of(data: dict[str, Any]) -> Iterator[str]:
    """What the reference calls the keys of a schedule; a driver's own are its driver's."""
    ours = {"driver", "home", "priority", "cpu"}
    for name, value in data.items():
        if name in ("device", "sensor", "actuator", "estop"):
            for table in value.values():
                own = ours if name == "device" else set(table)
                yield from (f"{name}-NAME-{key}" for key in own & set(table))
        elif name == "emulator":
            yield "emulator-module"
        elif name in ("cycle", "gateway", "page", "store", "guard", "policy", "world", "task"):
            yield from (f"{name}-{key}" for key in value)
        else:
            yield f"top-{name}"


def test_the_reference_of_the_header_has_all_that_the_compiler_sees() -> None:
    read = {name for section in c_header.read() for _, name in section.names()}
    seen = set(dir(lib)) | set().union(*ffi.list_types())
    assert len(read) > 400
    assert read == seen - {"inphase_render"}  # build_core.py's own: Python's side of a callback


def test_no_comment_of_the_header_is_lost() -> None:
    page = " ".join(re.sub(r"[\\`*]|\{c:\w+\}", "", c_header.render(c_header.read())).split())
    text = c_header.HEADER.read_text()
    comments = re.findall(r"^/\* (?!----)(.+?)\*/", text, re.MULTILINE | re.DOTALL)
    assert len(comments) > 100
    for comment in comments:
        assert " ".join(re.sub(r"[`*\\]", "", comment).split()) in page


def test_every_dated_decision_is_on_the_list() -> None:
    found = decisions.read()
    dated = [
        line
        for path in {decision.page for decision in found}
        for line in (ROOT / path).read_text().partition("## Decisions")[2].splitlines()
        if re.match(r"(- )?\d{4}-\d\d-\d\d", line)
    ]
    assert len(found) == len(dated) > 40
    assert [decision.date for decision in found] == sorted((d.date for d in found), reverse=True)


def test_every_module_that_users_import_has_a_page_with_all_its_names() -> None:
    pages = ROOT / "docs" / "reference" / "python"
    assert {path.stem for path in pages.glob("*.md")} == (set(FACES) | GROUND) - {
        "inphase.__main__"
    }
    page = (pages / "inphase.md").read_text()
    assert not [name for name in inphase.__all__ if f"inphase.{name}" not in page]


def test_every_page_of_the_repository_is_on_the_site() -> None:
    config: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    found = get_matching_files(ROOT, config["include_patterns"], config["exclude_patterns"])
    left_out = {page.as_posix() for page in PAGES} - set(found)
    templates = "middleware/inphase/command/templates"
    assert left_out == {f"{templates}/driver/README.md", f"{templates}/project/README.md"}


NAMES_IN_FILES = ("inphase.mean.", "inphase.std.", "inphase.sample.")
"""Keys of a model's metadata, and messages of a recording: no names in Python."""


def named_in_words() -> set[str]:
    """Every `inphase.module.name` of the pages and of the package's docstrings."""
    pages = [path for path in ROOT.rglob("*.md") if ".venv" not in path.parts]
    sources = (ROOT / "middleware" / "inphase").rglob("*.py")
    text = "".join(path.read_text() for path in (*pages, *sources))
    return set(re.findall(r"`(inphase\.[a-z_.]+\.\w+)(?:\(.*?\))?`", text))


def test_a_name_that_words_give_is_there() -> None:
    named = {name for name in named_in_words() if not name.startswith(NAMES_IN_FILES)}
    assert {"inphase.packets.can_frame", "inphase.emulation.part_of"} <= named
    assert not [name for name in sorted(named) if not is_there(name)]


def is_there(name: str) -> bool:
    """A module, or a name in one."""
    module, _, attribute = name.rpartition(".")
    try:
        return hasattr(import_module(module), attribute) or find_spec(name) is not None
    except ModuleNotFoundError:
        return False
