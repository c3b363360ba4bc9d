"""The cost of a call: instructions, system calls, allocations and copied bytes of its thread."""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from inphase._core import ffi, lib

_ALLOCATES = ("malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc")
_COPIES = ("memcpy", "memmove")


class Ran(NamedTuple):
    """Of one call. The native header's struct inphase_ran says what each is."""

    instructions: int
    own: int
    calls: int
    allocations: int
    copied: int


class Trap:
    """Counts calls of functions, by their names. Thread: one of the process at a time.

    Raises OSError ENOTSUP on a processor whose threads cannot be trapped.
    """

    def __init__(self) -> None:
        self.ran: dict[str, list[Ran]] = {}
        low, high = _core_range()
        self._watched = ffi.new(
            "struct inphase_watched *",
            {
                "low": low,
                "high": high,
                "allocates": _addresses(_ALLOCATES),
                "copies": _addresses(_COPIES),
            },
        )
        self._out = ffi.new("struct inphase_ran *")
        self._empty = self._count(_nothing)

    def count(self, call: Callable[[], None]) -> None:
        """Run a call, and keep what it took."""
        ran = self._count(call)
        found = Ran(*(number - least for number, least in zip(ran, self._empty, strict=True)))
        self.ran.setdefault(call.__name__, []).append(found)

    def _count(self, call: Callable[[], None]) -> Ran:
        out = self._out
        begin, end, watched = lib.inphase_trap_begin, lib.inphase_trap_end, self._watched
        rc = begin(watched, out)
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc))
        try:
            call()
        finally:
            end()
        return Ran(out.instructions, out.own, out.calls, out.allocations, out.copied)


def _nothing() -> None:
    pass


def _core_range() -> tuple[int, int]:
    """Where the code of the C core lies in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    (code,) = (line for line in lines if "/inphase/_core." in line and " r-xp " in line)
    low, high = (int(digits, 16) for digits in code.split()[0].split("-"))
    return low, high


def _addresses(names: tuple[str, ...]) -> list[int]:
    """Where functions of the C library begin, each once."""
    library = ctypes.CDLL(None)
    found = (ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in names)
    return sorted({address for address in found if address})
