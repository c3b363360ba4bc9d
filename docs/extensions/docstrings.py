"""Docstrings as they are written here, for autodoc: plain words, names in single backticks.

An indented part is code. Names of types lead to the module that offers them.
"""

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

FACES = re.compile(r"inphase(\.\w+)?\.[A-Z]\w*")
GIVEN = ("inphase.frames.", "inphase.episodes.episode")
ENUMERATOR = re.compile(r"<(\w+\.\w+): [^>]*>")  # as Python shows one
OF_A_TUPLE = "Alias for field number"  # what Python says of a field that nobody described


def as_rst(docstring: list[str]) -> list[str]:
    """The lines of a docstring in reStructuredText."""
    lines: list[str] = []
    code = False
    for line in docstring:
        if line.startswith("    ") and (code or not lines or not lines[-1]):
            lines += [] if code else ["::", ""]
            code = True
        elif line:
            code = False
        lines.append(line if code else _inline(line))
    return lines


def _inline(line: str) -> str:
    """Names in backticks as literals, all else as plain words."""
    parts = re.split(r"(`[^`]*`|(?<!\w)\*\w+\*(?!\w))", line)
    return "".join(_literal(part) if part[:1] in ("`", "*") else _plain(part) for part in parts)


def _literal(part: str) -> str:
    return f"`{part}`" if part.startswith("`") else part


def _plain(part: str) -> str:
    return re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part)


def _write(_: Sphinx, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    text = [] if lines and lines[0].startswith(OF_A_TUPLE) else as_rst(lines)
    lines[:] = text


def _readable(
    _: Sphinx, what: str, __: str, found: Any, ___: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """A signature with defaults as one writes them; none for a class whose objects are given."""
    if what == "class" and found.__module__.startswith(GIVEN):
        return "", None
    return None if signature is None else (ENUMERATOR.sub(r"\1", signature), returns)


def _offered(
    _: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.TextElement
) -> nodes.reference | None:
    """A type of a room, where a face offers it."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].rpartition(".")[2]
    domain: Any = env.get_domain("py")
    known = [one for one in domain.objects if FACES.fullmatch(one) and one.endswith(f".{name}")]
    if not node["reftarget"].startswith("inphase.") or not known:
        return None
    found = domain.objects[min(known, key=len)]
    uri = env.app.builder.get_relative_uri(node["refdoc"], found.docname)
    return nodes.reference("", "", shown, internal=True, refuri=f"{uri}#{found.node_id}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to autodoc, and to names that lead nowhere."""
    app.connect("autodoc-process-docstring", _write)
    app.connect("autodoc-process-signature", _readable)
    app.connect("missing-reference", _offered)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
