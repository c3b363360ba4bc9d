"""Remarks on a policy's answers, for a person: each once, with its remedy."""

import json
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from inphase.errors import install
from inphase.frames.frame import Frame, NoSample
from inphase.schedule import Schedule

_TRACEBACKS = 3
"""so many different errors are told; later ones would flood"""
_PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
_GOOD = ("FRESH", "HELD")
LONG_NS = 500_000_000
"""a call that takes longer is no hiccup of the machine"""
_SHOWN = 60
"""letters of a value"""
_OF_MODULES = {
    "socket": "network",
    "ssl": "network",
    "subprocess": "processes",
    "multiprocessing": "processes",
}
"""module that asked the kernel -> the right that it wants"""


class Remarks:
    """The mistakes of a policy, told where it makes them. Thread: the policy's.

    say: takes each text. is_confined: the policy runs in its sandbox. is_virtual: time waits for
    it.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        described: Schedule,
        *,
        is_confined: bool = False,
        is_virtual: bool = False,
    ) -> None:
        self._say = say
        self._described = described
        self._is_confined = is_confined
        self.is_virtual = is_virtual
        """virtual time waits for the policy"""
        self._said: set[object] = set()

    def no_command(self, answer: Any, frame: Frame) -> None:
        """The policy returned something that is no command: None, or of the wrong shape.

        None is told only where every sample was good: a policy may wait for its sensors.
        """
        wanted = wanted_of(frame, self._described)
        if answer is not None:
            self.once(
                "shape", f"policy returned {_seen(answer)} in cycle {frame.cycle}; return {wanted}"
            )
        elif all(sample.status in _GOOD for sample in frame.samples.values()):
            self.once(
                "silent",
                f"policy returned None in cycle {frame.cycle}, which is no command: the robot "
                f"repeats the one before, then ramps to rest; return {wanted}"
                f"{self._stay()}",
            )

    def raised(self, error: BaseException, frame: Frame) -> None:
        """The policy raised; the traceback follows on stderr, but for a sample that is not there
        yet."""
        if isinstance(error, NoSample):
            self.once(
                NoSample,
                f"policy was called in cycle {frame.cycle} before there were samples: {error}; "
                f"let it begin later, by [policy] accepts = {{ {error.sensor} = "
                f'["FRESH", "HELD"] }}, or return None',
            )
            return
        place = _place_of(error)
        key = (type(error), place)
        if key in self._said or len(self._said) >= _TRACEBACKS:
            return
        self.once(
            key,
            f"policy raised {type(error).__name__} in cycle {frame.cycle}{place}: "
            f"{words_of(error)}; "
            f"{remedy_of(error, is_confined=self._is_confined) or 'that cycle has no command'}",
        )
        traceback.print_exception(error)

    def took(self, took_ns: int, frame: Frame) -> None:
        """A call took long. On the wall clock the runtime says so, while the call lasts; of a
        server it is known."""
        is_own = self._described.policy is None or self._described.policy.server is None
        if self.is_virtual and is_own and took_ns > LONG_NS:
            self.once(
                "long",
                f"policy took {took_ns / 1e9:.1f} s in cycle {frame.cycle}: virtual time waited "
                f"for it, a robot will not; let a call wait for nothing, and do what is slow in "
                f"its warm_up(frame), before the first cycle",
            )

    def foreseen(self, text: str) -> None:
        """Tell an act that a run would refuse; the teller does so once."""
        self._say(text)

    def once(self, key: object, text: str) -> None:
        """Tell a text, the first of its key."""
        if key not in self._said:
            self._said.add(key)
            self._say(text)

    def _stay(self) -> str:
        """How to stay where the robot is, if its only actuator has positions as feedback."""
        parts = [
            (actuator.feedback or "").partition(".")
            for actuator in self._described.actuator.values()
            if actuator.mode == "position"
        ]
        if len(parts) != len(self._described.actuator) or len(parts) != 1 or not parts[0][2]:
            return ""
        sensor, _, field = parts[0]
        return f', as frame["{sensor}"]["{field}"] to stay where it is'


def wanted_of(frame: Frame, described: Schedule) -> str:
    """A command's shape, for a person."""
    actuators = frame.layout.actuators
    count = sum(channels for _, channels, _ in actuators)
    chunk = described.policy.chunk if described.policy is not None else 1
    rows = f"{chunk} rows of " if chunk > 1 else ""
    parts = ", ".join(f"{name} {channels} [{unit}]" for name, channels, unit in actuators)
    shape = f"({chunk}, {count})" if chunk > 1 else f"({count},)"
    keys = ", ".join(f'"{name}": ...' for name, _, _ in actuators)
    return f"an array of shape {shape}, {rows}{parts}; or a dict {{{keys}}} of such arrays"


def _seen(answer: Any) -> str:
    """A value that is no command, for a person."""
    if isinstance(answer, dict):
        parts = [f"{name!r}: {_seen(part)}" for name, part in answer.items()]
        return f"a dict {{{', '.join(parts)}}}"
    if isinstance(answer, list | tuple | np.ndarray | np.generic | int | float):
        try:
            found = np.asarray(answer)
        except ValueError:
            return f"a {type(answer).__name__} of rows of different lengths"
        kind = "" if found.dtype.kind in "fiu" else f" and dtype {found.dtype}"
        return f"an array of shape {found.shape}{kind}"
    text = repr(answer)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return f"a {type(answer).__name__} ({shown})"


def _place_of(error: BaseException) -> str:
    """The innermost line of the user's own, as the end of a sentence."""
    return _own_line(traceback.extract_tb(error.__traceback__))


def caller_of(frame: FrameType) -> str:
    """The innermost line of the user's own that led to a frame, as the end of a sentence."""
    return _own_line(traceback.extract_stack(frame))


def _own_line(stack: traceback.StackSummary) -> str:
    steps = [step for step in stack if not Path(step.filename).is_relative_to(_PACKAGE)]
    own = [step for step in steps if not step.filename.startswith(_INSTALLED)] or steps
    return f", {own[-1].filename}, line {own[-1].lineno}" if own else ""


def words_of(error: BaseException) -> str:
    """An error's text; that of a KeyError is not in quotes."""
    if isinstance(error, KeyError) and len(error.args) == 1 and isinstance(error.args[0], str):
        return error.args[0]
    return " ".join(str(error).split()) or "no text"


def remedy_of(error: BaseException, *, is_confined: bool) -> str:
    """The first thing to do about an error of a policy; "": nothing is known of it."""
    for one in _chain(error):
        if isinstance(one, SystemExit):
            return "return a command or None, and exit nowhere: a run ends by ^C or --cycles"
        if isinstance(one, ModuleNotFoundError) and one.name:
            return f"{install(one.name)} into {sys.prefix}"
        if is_confined and isinstance(one, PermissionError):
            right = _right_of(one)
            return (
                f"the policy's sandbox refuses it: give [policy] allow = [{json.dumps(right)}]"
                f"{temporary(right)}"
            )
    return ""


def temporary(right: str) -> str:
    """The other remedy of a policy that wants to write, as the end of a sentence."""
    return ", or write into tempfile.gettempdir(), which it may" if right == "files" else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        inside = getattr(error, "reason", None)  # urllib's
        error = error.__cause__ or error.__context__
        if isinstance(inside, BaseException):
            error = inside


def _right_of(error: PermissionError) -> str:
    """The right that was asked for: by the file that was named, or else by the module."""
    if isinstance(error.filename, str):
        return "devices" if os.fspath(error.filename).startswith("/dev/") else "files"
    modules = [
        str(frame.f_globals.get("__name__", "")).partition(".")[0]
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]
    known = [_OF_MODULES[name] for name in modules if name in _OF_MODULES]
    return known[-1] if known else "files"
