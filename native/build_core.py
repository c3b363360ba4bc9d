"""Writes the C source of the Python extension `inphase._core` from the core's header.

Run by CMake: `python build_core.py inphase.h OUTPUT.c`. The header is read unchanged.
"""

import sys
from pathlib import Path

from cffi import FFI

_CALLBACK = """
extern "Python" int inphase_render(void *user, uint32_t sensor, void *payload);
"""
"""`render` of struct inphase_world, in Python: lock step alone, in the caller's thread"""


def main() -> None:
    """Read the header named first, write the extension's source to the path named second."""
    header, output = Path(sys.argv[1]), Path(sys.argv[2])
    ffi = FFI()
    ffi.cdef(header.read_text())
    ffi.cdef(_CALLBACK)
    ffi.set_source("inphase._core", '#include <stdint.h>\n#include "inphase.h"\n')
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main()
