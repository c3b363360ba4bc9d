"""README.md says commands, options, targets and names that there are."""

import re

import click
import pytest

import inphase
from inphase.command.cli import cli
from peers import ROOT

README = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SHELL = [line for language, text in FENCED if not language for line in text.splitlines()]
TYPED = sorted(
    {
        piece.partition("#")[0].split(" | ")[0].split(" > ")[0].strip()
        for piece in [*SHELL, *re.findall(r"`([^`]+)`", re.sub(r"(?s)```.*?```", "", README))]
        if piece.startswith(("inphase ", "make "))
    }
)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_it_begins_with_a_picture_and_two_commands() -> None:
    head = README.partition("\n## ")[0]
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", head)
    assert (ROOT / picture).is_file()
    language, block = FENCED[0]
    assert (language, [line.split("#")[0].strip() for line in block.splitlines()]) == (
        "",
        ["make demo", "make test"],
    )
    assert head.index(picture) < head.index("make demo")


@pytest.mark.parametrize("typed", TYPED)
def test_a_command_that_it_names_is_there_with_its_options(typed: str) -> None:
    program, *words = typed.split()
    if program == "make":
        assert words[0] in TARGETS or words[0].startswith(".venv")
        return
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {name for option in command.params for name in option.opts}
    assert {word for word in words if re.match(r"--?[a-z]", word)} <= known


def test_the_options_beside_a_command_are_its_own() -> None:
    rows = re.findall(r"^\| `inphase ([a-z ]+)[^|]*\| (.*) \|$", README, re.MULTILINE)
    assert len(rows) > 10
    for words, about in rows:
        command: click.Command = cli
        for word in words.split():
            if isinstance(command, click.Group):
                command = command.commands[word]
        known = {name for option in command.params for name in option.opts}
        assert set(re.findall(r"`(--[a-z-]+)", about)) <= known, words


def test_every_command_has_a_row() -> None:
    named = {word for word in re.findall(r"^\| `inphase ([a-z]+)", README, re.MULTILINE)}
    assert set(cli.commands) <= named


@pytest.mark.parametrize("number", range(sum(language == "python" for language, _ in FENCED)))
def test_its_python_compiles_and_names_what_there_is(number: int) -> None:
    text = [text for language, text in FENCED if language == "python"][number]
    compile(text, "README.md", "exec")
    for name in re.findall(r"\binphase\.([a-zA-Z]\w*)\(", text):
        assert getattr(inphase, name) is not None


def test_a_terminal_is_told_once_how_the_command_is_found() -> None:
    before = README.partition("## A first look")[0]
    assert "pip install" in before, "of the wheel, inphase is on the path"
    assert ". .venv/bin/activate" in README.partition("## A first look")[2].partition("```\n")[2]
