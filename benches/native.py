"""The benches' C files, compiled when they are first needed, into build/benches."""

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType

from cffi import FFI

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "benches"
_CORE = HERE.parent / "native"
_SOURCES = ("yardstick.c", "writer.c", "steps.c", "samplers.c", "world.c")
_FLAGS = ("-std=gnu11", "-O2", "-g", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wshadow")


def _is_older(target: Path, sources: list[Path]) -> bool:
    return not target.exists() or any(
        source.stat().st_mtime > target.stat().st_mtime for source in sources
    )


def _compile(target: Path, sources: list[Path], *flags: str) -> None:
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, *_FLAGS, *flags, *map(str, sources), "-o", str(target), "-pthread"], check=True
    )


def _core_sources() -> list[Path]:
    own = {_CORE / "src" / name for name in ("guard_process.c", "sentinel.c")}  # each has a main
    return sorted(set((_CORE / "src").glob("*.c")) - own)


def extension() -> Path:
    """The extension module's file, in API mode as the product's own."""
    target = BUILD / f"_bench{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [HERE / name for name in _SOURCES]
    sources += _core_sources()
    watched = [*sources, HERE / "yardstick.h", HERE / "shared.h", *(_CORE / "src").glob("*.h")]
    if _is_older(target, watched):
        BUILD.mkdir(parents=True, exist_ok=True)
        ffi = FFI()
        ffi.cdef((HERE / "yardstick.h").read_text())
        ffi.set_source("_bench", '#include <stdint.h>\n#include "yardstick.h"\n')
        ffi.emit_c_code(str(BUILD / "_bench.c"))
        include = sysconfig.get_path("include")
        _compile(
            target,
            [BUILD / "_bench.c", *sources],
            "-ffp-contract=off",
            f"-I{HERE}",
            f"-I{include}",
            "-lm",
        )
    return target


def preload() -> Path:
    """The library that counts allocations, for LD_PRELOAD."""
    target = BUILD / "allocations.so"
    source = HERE / "allocations.c"
    if _is_older(target, [source]):
        BUILD.mkdir(parents=True, exist_ok=True)
        _compile(target, [source])
    return target


def _program(name: str, source: Path) -> Path:
    """A program with the whole core in it."""
    target = BUILD / name
    sources = [source, *_core_sources()]
    if _is_older(target, [*sources, *(_CORE / "src").glob("*.h"), _CORE / "inphase.h"]):
        BUILD.mkdir(parents=True, exist_ok=True)
        flags = [flag for flag in _FLAGS if flag not in ("-shared", "-fPIC")]
        command = [os.environ.get("CC", "cc"), *flags, "-ffp-contract=off", *map(str, sources)]
        subprocess.run([*command, "-o", str(target), "-pthread", "-lm"], check=True)
    return target


def limiter() -> Path:
    """The program that asks the core's limiter for anything."""
    return _program("limiter", HERE / "limiter.c")


def paced() -> Path:
    """A stream over UDP, and who answers it."""
    return _program("paced", HERE / "paced.c")


def walk() -> Path:
    """The C tests' walk through the states of a robot."""
    return _program("walk", _CORE / "tests" / "test_walk.c")


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_bench", extension())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_module = _load()
ffi = _module.ffi
lib = _module.lib
