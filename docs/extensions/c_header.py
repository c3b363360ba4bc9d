"""The reference of a C header, made from its text: sections, prose, declarations.

The header is read as it is written: `/* ---- title ---- */` opens a section, a comment belongs to
the declarations right below it, and one before a blank line is prose of its section.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sphinx.application import Sphinx

HEADER = Path(__file__).resolve().parents[2] / "native" / "inphase.h"
PAGE = "docs/reference/inphase-h"
MARK = "<!-- the header -->"

ELSEWHERE = ("#pragma", "#include")
SECTION = re.compile(r"/\* ---- (.+?) -+ \*/")
NAME = re.compile(r"\b(?:inphase|INPHASE)_\w+(?:\*|\b)")
EMPHASIS = re.compile(r"(?<![\w*])\*(\w+)\*(?![\w*])")
DECLARED = {
    "macro": re.compile(r"^#define (\w+)", re.MULTILINE),
    "struct": re.compile(r"^struct (\w+) \{", re.MULTILINE),
    "type": re.compile(r"^typedef struct \w+ (\w+);", re.MULTILINE),
    "func": re.compile(r"(\w+)\("),
}


@dataclass(frozen=True)
class Prose:
    """A comment, without its marks."""

    text: str


@dataclass(frozen=True)
class Code:
    """Macros, a structure or types, as they stand."""

    text: str
    kind: str


@dataclass(frozen=True)
class Functions:
    """Prototypes that stand below one comment."""

    prototypes: tuple[str, ...]
    comment: str


Item = Prose | Code | Functions


@dataclass(frozen=True)
class Section:
    """What stands below one title; the first has none."""

    title: str
    items: tuple[Item, ...]

    def names(self) -> Iterator[tuple[str, str]]:
        """Kind and name of each declaration."""
        for item in self.items:
            if isinstance(item, Code):
                yield from ((item.kind, name) for name in DECLARED[item.kind].findall(item.text))
            elif isinstance(item, Functions):
                for prototype in item.prototypes:
                    yield "func", DECLARED["func"].findall(prototype)[0]


class Scanner:
    """Reads a header's lines from the top."""

    def __init__(self, text: str) -> None:
        self.lines = text.splitlines()
        self.at = 0

    def until(self, end: str) -> str:
        """The lines from here to the first that ends so."""
        first = self.at
        while not self.lines[self.at].endswith(end):
            self.at += 1
        self.at += 1
        return "\n".join(self.lines[first : self.at])

    def macros(self) -> str:
        """Definitions that follow each other, with the comments that go on below them."""
        first = self.at
        while self._line().startswith(("#define", " ")):
            self.at += 1
        return "\n".join(self.lines[first : self.at])

    def sections(self) -> Iterator[Section]:
        """Every section, in order."""
        title, items = "", list[Item]()
        while self.at < len(self.lines):
            opens = SECTION.match(self._line())
            if opens:
                yield Section(title, tuple(items))
                title, items = opens[1], []
                self.at += 1
            else:
                items += self.next_items()
        yield Section(title, tuple(items))

    def next_items(self) -> list[Item]:
        """What begins at this line."""
        line = self._line()
        if not line or line.startswith(ELSEWHERE):
            self.at += 1
            return []
        comment = _words(self.until("*/")) if line.startswith("/*") else ""
        line = self._line()
        before: list[Item] = [Prose(comment)] if comment else []
        if not line or line.startswith(("/*", *ELSEWHERE)):
            return before
        if line.startswith("#define"):
            return [*before, Code(self.macros(), "macro")]
        if line.startswith("struct") and line.endswith("{"):
            return [*before, Code(self.until("};"), "struct")]
        if line.startswith("typedef"):
            return [*before, Code(self.until(";"), "type")]
        prototypes = []
        while re.match(r"(?!typedef|struct \w+ \{)\w", self._line()):
            prototypes.append(re.sub(r"\s+", " ", self.until(";")).rstrip(";"))
        return [Functions(tuple(prototypes), comment)]

    def _line(self) -> str:
        return self.lines[self.at] if self.at < len(self.lines) else ""


def read(path: Path = HEADER) -> list[Section]:
    """The sections of a header."""
    return list(Scanner(path.read_text()).sections())


def render(sections: list[Section]) -> str:
    """The sections in MyST."""
    roles = {name: kind for section in sections for kind, name in section.names()}
    return "\n\n".join(text for section in sections for text in _section(section, roles))


def _section(section: Section, roles: dict[str, str]) -> Iterator[str]:
    if section.title:
        yield f"## {section.title[0].upper()}{section.title[1:]}"
    for item in section.items:
        if isinstance(item, Prose):
            yield _prose(item.text, roles)
        elif isinstance(item, Functions):
            first, *others = item.prototypes
            yield f"~~~{{c:function}} {first}\n\n{_prose(item.comment, roles)}\n~~~"
            yield from (f"~~~{{c:function}} {other}\n~~~" for other in others)
        else:
            for name in DECLARED[item.kind].findall(item.text):
                yield f"~~~{{c:{item.kind}}} {name}\n:no-typesetting:\n~~~"
            yield f"~~~c\n{item.text}\n~~~"


def _words(comment: str) -> str:
    """A comment's words: no marks, no indentation."""
    lines = comment.removeprefix("/*").removesuffix("*/").splitlines()
    return "\n".join(line.strip() for line in lines)


def _prose(text: str, roles: dict[str, str]) -> str:
    """Words as Markdown: names refer to their declarations, all else stands as it is."""
    parts, end = [], 0
    for found in NAME.finditer(text):
        parts.append(_plain(text[end : found.start()]))
        name = found[0]
        parts.append(f"{{c:{roles[name]}}}`{name}`" if name in roles else f"`{name}`")
        end = found.end()
    return "".join([*parts, _plain(text[end:])])


def _plain(text: str) -> str:
    emphasised = EMPHASIS.sub("\0\\1\0", text)
    return re.sub(r"([\\`*_\[\]<>{}#|~])", r"\\\1", emphasised).replace("\0", "*")


def _fill_in(app: Sphinx, name: str, content: list[str]) -> None:
    if name == PAGE:
        app.env.note_dependency(HEADER)
        content[0] = content[0].replace(MARK, render(read()))


def setup(app: Sphinx) -> dict[str, bool]:
    """Put the reference in its page when that is read."""
    app.connect("source-read", _fill_in)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
