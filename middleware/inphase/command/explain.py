"""The meaning of a word, for `inphase explain`: of a frame, of a run, or a key of a schedule."""

import difflib
import re
from typing import Any, NamedTuple

from rich.console import Group
from rich.text import Text

from inphase.errors import ScheduleError
from inphase.frames.meanings import KINDS
from inphase.schedule import tables
from inphase.schedule.reference import value_of, walk

_NEAR = 5
_KEY = "key of a schedule"


class Explained(NamedTuple):
    """One meaning of a word."""

    word: str
    kind: str
    meaning: str
    remedy: str


def every() -> list[Explained]:
    """All words that there are; a key has its table before it, as `cycle.act_us`."""
    found = [
        Explained(word, kind, *meaning)
        for kind, words in KINDS.items()
        for word, meaning in words.items()
    ]
    for table in walk(tables.Tables):
        for key in table.keys:
            name = f"{table.name}.{key.name}".removeprefix(".")
            left_out = f"; left out: {key.default}" if key.default else ""
            found.append(Explained(name, _KEY, f"{key.meaning} ({value_of(key)}{left_out})", ""))
    return found


def of(words: tuple[str, ...]) -> list[Explained]:
    """The meanings of the words of a question, as `LATE`, `act_us` or `why is joints LATE?`.

    A word in the letters that were typed comes before the same word in others. Raises ScheduleError
    with the nearest names, where no word of it is known.
    """
    asked = [word.strip("`'\"?!,;:()[]") for text in words for word in text.split()]
    everything = every()
    found = [one for word in asked for one in everything if _is_called(one, word)]
    if not found:
        found = [
            one
            for word in asked
            for one in everything
            if _is_called(one, word.upper()) or _is_called(one, word.lower())
        ]
    if found:
        of_runs = [one for one in found if one.kind != _KEY]  # "sensor" of a question is also a key
        return list(dict.fromkeys(of_runs if len(asked) > 1 and of_runs else found))
    raise ScheduleError(_unknown(asked, everything))


def _is_called(one: Explained, word: str) -> bool:
    """It has this name, or a key's name ends in it."""
    return bool(word) and (one.word == word or (one.kind == _KEY and one.word.endswith(f".{word}")))


def _unknown(asked: list[str], everything: list[Explained]) -> str:
    names: dict[str, str] = {}
    for one in everything:
        names[one.word.lower()] = one.word
        names[one.word.rpartition(".")[2].lower()] = one.word.rpartition(".")[2]
    near = [
        names[name]
        for word in asked
        for name in difflib.get_close_matches(word.lower(), names, _NEAR, 0.5)
    ]
    said = " ".join(asked)
    if near:
        return f"no word {said!r}; the nearest: {', '.join(dict.fromkeys(near))}"
    return f"no word {said!r}; `inphase explain` without a word lists all of them"


def render(found: list[Explained]) -> Any:
    """A rich renderable: the word, its meaning, and the first thing to do."""
    parts = []
    for one in found:
        text = Text()
        text.append(one.word, "bold")
        text.append(f"  {one.kind}\n", "dim")
        text.append(f"  {_plain(one.meaning)}")
        if one.remedy:
            text.append("\n  do: ", "dim")
            text.append(_plain(one.remedy))
        parts.append(text)
    return Group(*parts)


def render_list() -> Any:
    """A rich renderable of all words, by kind."""
    parts = []
    for kind in (*KINDS, _KEY):
        text = Text()
        text.append(f"{kind}: ", "bold")
        text.append(", ".join(one.word for one in every() if one.kind == kind))
        parts.append(text)
    return Group(*parts)


def _plain(text: str) -> str:
    """Markdown's links as their words."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
