"""The one program that the emulated controller knows, read from its text.

Source: Universal Robots, script manual: `servoj`, `speedj`, `rtde_set_watchdog`.
"""

import re
from dataclasses import dataclass

from ..arm import Drive
from ..wire import NEVER_NS

_LOOP = re.compile(
    r"def \w+\(\):\n.*while \(read_input_integer_register\(24\) == (\d+)\):\n"
    r".*read_input_float_register\(24\).*(servoj|speedj)\(goal, .*stopj\(.*\nend\n",
    re.DOTALL,
)
_WATCHDOG = re.compile(r'rtde_set_watchdog\("input_double_register_24", ([0-9.e+]+), "stop"\)')


@dataclass(frozen=True)
class Program:
    """A program that follows goals."""

    number: int
    """of its input register: with another there it ends"""
    drive: Drive
    watchdog_ns: int
    """without goals for so long the controller ends it"""


def read(text: str) -> Program | None:
    """The program; None: the emulator does not know such a one."""
    loop = _LOOP.search(text)
    if loop is None:
        return None
    watchdog = _WATCHDOG.search(text)
    return Program(
        number=int(loop[1]),
        drive=Drive.POSITION if loop[2] == "servoj" else Drive.VELOCITY,
        watchdog_ns=int(1e9 / float(watchdog[1])) if watchdog else NEVER_NS,
    )
