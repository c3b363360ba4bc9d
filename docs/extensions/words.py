"""The page of words, made from the tables that `inphase explain` prints."""

from sphinx.application import Sphinx

from inphase.frames.meanings import KINDS

PAGE = "docs/reference/words"
MARK = "<!-- the words -->"
TITLES = {
    "status": "Statuses of a sample",
    "reason": "Reasons",
    "flag of a frame": "Flags of a frame",
    "flag of an act": "Flags of an act",
    "state": "States of a robot",
    "outcome": "Outcomes of an episode",
    "driver of an act": "Who gave the command of an act",
    "exit code": "Exit codes",
}


def render() -> str:
    """All tables in MyST."""
    parts = []
    for kind, words in KINDS.items():
        lines = [f"## {TITLES[kind]}\n", "| word | meaning | do |", "| --- | --- | --- |"]
        lines += [
            f"| `{word}` | {_cell(meaning)} | {_cell(remedy)} |"
            for word, (meaning, remedy) in words.items()
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _fill_in(_: Sphinx, name: str, content: list[str]) -> None:
    if name == PAGE:
        content[0] = content[0].replace(MARK, render())


def _always(_: Sphinx, env: object, *__: object) -> list[str]:
    """Read the page in every build: the tables are imported, and no file that Sphinx watches."""
    return [PAGE]


def setup(app: Sphinx) -> dict[str, bool]:
    """Put the words in their page when that is read."""
    app.connect("source-read", _fill_in)
    app.connect("env-get-outdated", _always)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
