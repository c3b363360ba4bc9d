"""The standard streams of a command: there from the start, and no trouble when nobody reads."""

import errno
import os
import sys
from typing import Any


def open_standard_streams() -> None:
    """A closed one leads to the null device: a device would get its number, and the output."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def tell_unwritten(error: OSError, code: int) -> int:
    """Say that the summary was not written, which changes no exit code that the run has. A reader
    or a terminal that left wanted none; else the code is 1 in place of 0."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, 1)
    try:
        text = f"inphase: the summary was not written to stdout: {error.strerror}"
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(nobody, 2)
    return code or int(error.errno not in (errno.EPIPE, errno.EIO))


def print_json(value: Any) -> None:
    """A line of JSON on stdout, written out at once. Raises OSError."""
    import json  # a command without --json starts sooner

    print(json.dumps(value), flush=True)
