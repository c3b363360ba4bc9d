"""The reference of a schedule's keys, as a page."""

import inspect
import re
import textwrap
from importlib.metadata import entry_points

from sphinx.application import Sphinx

from inphase.schedule import distribution, tables
from inphase.schedule.reference import SHAPE, DescribedKey, DescribedTable, keys, value_of, walk

PAGE = "docs/reference/schedule"


def render_tables() -> str:
    """All tables of a schedule in MyST, distributions last."""
    found = list(walk(tables.Tables))
    parts = [_section(table, {other.name for other in found}) for table in found]
    parts += ["## A distribution", _prose(inspect.getdoc(distribution) or "")]
    for name, cls in (("distribution", SHAPE), ("histogram", distribution.Histogram)):
        parts += [f"### Keys of a {name}", _rows(name, keys(cls))]
    return "\n\n".join(parts)


def drivers() -> dict[str, type]:
    """The keys' structure of each driver that comes with inphase, by name."""
    points = sorted(entry_points(group="inphase.drivers"), key=lambda point: point.name)
    ours = [point for point in points if point.value.startswith("inphase_drivers.")]
    return {point.name: point.load().Options for point in ours}


def render_drivers() -> str:
    """The own keys of every driver in MyST."""
    parts = []
    for name, options in drivers().items():
        parts.append(f"### `{name}`\n\n{_rows(name, keys(options))}")
        parts += [
            f"Each table of `{inner.name}`:\n\n{_rows(f'{name}-{inner.name}', inner.keys)}"
            for inner in walk(options, "")
            if inner.name
        ]
    return "\n\n".join(parts)


def _section(table: DescribedTable, names: set[str]) -> str:
    if not table.name:
        return f"## At the top\n\n{_rows('top', table.keys)}"
    inside = any(table.name.startswith(f"{name}.") for name in names if name)
    level = "###" if inside else "##"
    name = f"[[{table.name[:-2]}]]" if table.name.endswith("[]") else f"[{table.name}]"
    return f"{level} `{name}`\n\n{table.meaning}\n\n{_rows(table.name, table.keys)}"


def _rows(table: str, own: tuple[DescribedKey, ...]) -> str:
    lines = ["| key | value | left out | meaning |", "| --- | --- | --- | --- |"]
    for key in own:
        anchor = f"{table}-{key.name}".replace(".", "-").replace("[]", "")
        cells = [f"[`{key.name}`]{{#{anchor}}}", value_of(key), key.default, key.meaning]
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def _prose(docstring: str) -> str:
    """A docstring, with its indented parts as blocks."""
    return re.sub(
        r"(?:^    .+\n)+",
        lambda block: f"```text\n{textwrap.dedent(block[0])}```\n",
        docstring,
        flags=re.MULTILINE,
    )


def _fill_in(_: Sphinx, name: str, content: list[str]) -> None:
    if name == PAGE:
        text = content[0].replace("<!-- the tables -->", render_tables())
        content[0] = text.replace("<!-- the drivers -->", render_drivers())


def _always(_: Sphinx, env: object, *__: object) -> list[str]:
    """Read the page in every build: the tables are imported, and no file that Sphinx watches."""
    return [PAGE]


def setup(app: Sphinx) -> dict[str, bool]:
    """Put the reference in its page when that is read."""
    app.connect("source-read", _fill_in)
    app.connect("env-get-outdated", _always)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
