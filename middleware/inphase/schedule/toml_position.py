"""Find the line of a key in a TOML document, so that an error can point at it.

`tomllib` forgets where things were. This scanner reads a document that `tomllib` has accepted and
keeps only the places; it decodes nothing but keys.
"""

import json
import re
import tomllib
from bisect import bisect_right
from functools import lru_cache

Path = tuple[str | int, ...]
"""Where a value sits in a document: keys of tables, indices of arrays."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRINGS = (  # the longer opening first
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STEP = re.compile(r'"(?:[^"\\]|\\.)*"|\[\d+\]|[^.\[\]"]+')


def parse_path(text: str) -> Path:
    """Read `sensor.joints.range.position[1]`; a key with other signs in it stands in quotes."""
    steps: list[str | int] = []
    for step in _STEP.findall(text):
        if step.startswith("["):
            steps.append(int(step[1:-1]))
        else:
            steps.append(json.loads(step) if step.startswith('"') else step)
    return tuple(steps)


def format_path(path: Path) -> str:
    """Write a path as `parse_path` reads it."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            key = step if _BARE.fullmatch(step) else json.dumps(step)
            text += f".{key}" if text else key
    return text


def line_of(text: str, path: Path) -> int:
    """Line (from 1) of the key at `path`, or of the nearest table around it that the text has.

    `text` is valid TOML. A key that is missing is therefore found at its table's header.
    """
    lines = lines_of(text)
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


@lru_cache(maxsize=2)  # one text has many faults
def lines_of(text: str) -> dict[Path, int]:
    """Lines (from 1) of all keys, tables and array elements of a valid TOML document.

    A table's line is its header; a table without one has the line that mentions it first.
    """
    return _Scanner(text).document()


class _Scanner:
    """One pass over one document; every step moves `_at` forward, so it ends."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [found.start() for found in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._tables: dict[Path, int] = {}  # how many elements an array of tables has so far

    def document(self) -> dict[Path, int]:
        table: Path = ()
        self._blank()
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._assignment(table)
            self._blank()
        return self._lines

    def _line(self) -> int:
        return bisect_right(self._newlines, self._at - 1) + 1

    def _blank(self) -> None:
        found = _BLANK.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _skip(self, sign: str) -> None:
        self._blank()
        if not self._text.startswith(sign, self._at):
            raise ValueError(f"line {self._line()}: {sign!r} expected: not valid TOML")
        self._at += len(sign)
        self._blank()

    def _key(self) -> list[str]:
        """One dotted key."""
        steps: list[str] = []
        while True:
            self._blank()
            bare = _BARE.match(self._text, self._at)
            found = bare or self._string()
            if found is None:
                raise ValueError(f"line {self._line()}: a key expected: not valid TOML")
            word = found.group()
            steps.append(word if bare else next(iter(tomllib.loads(f"{word} = 0"))))
            self._at = found.end()
            self._blank()
            if not self._text.startswith(".", self._at):
                return steps
            self._at += 1

    def _string(self) -> re.Match[str] | None:
        for pattern in _STRINGS:
            found = pattern.match(self._text, self._at)
            if found:
                return found
        return None

    def _header(self) -> Path:
        line = self._line()
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        steps = self._key()
        self._at += 2 if many else 1

        path: Path = ()
        for step in steps[:-1]:
            path = (*path, step)
            self._lines.setdefault(path, line)
            if path in self._tables:
                path = (*path, self._tables[path] - 1)
        path = (*path, steps[-1])
        if many:
            self._lines.setdefault(path, line)
            self._tables[path] = self._tables.get(path, 0) + 1
            path = (*path, self._tables[path] - 1)
        self._lines[path] = line
        return path

    def _assignment(self, table: Path) -> None:
        line = self._line()
        path = table
        for step in self._key():
            path = (*path, step)
            self._lines.setdefault(path, line)
        self._skip("=")
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        else:
            found = self._string() or _SCALAR.match(self._text, self._at)
            self._at = found.end() if found else self._at

    def _array(self, path: Path) -> None:
        self._skip("[")
        index = 0
        while not self._text.startswith("]", self._at):
            self._lines[(*path, index)] = self._line()
            self._value((*path, index))
            index += 1
            self._blank()
            if not self._text.startswith("]", self._at):
                self._skip(",")
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._skip("{")
        while not self._text.startswith("}", self._at):
            self._assignment(path)
            self._blank()
            if not self._text.startswith("}", self._at):
                self._skip(",")
        self._at += 1
