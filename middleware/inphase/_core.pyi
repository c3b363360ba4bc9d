"""The C core: `lib` has what inphase.h declares, `ffi` makes and reads its structures."""

from typing import Any

ffi: Any
lib: Any
