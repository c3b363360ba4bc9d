"""The house rules of the C core: who calls whom, who sees the core, headers, sizes.

Each list of exceptions fails when an entry is no longer needed.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "native"
SOURCES = NATIVE / "src"
PUBLIC = NATIVE / "inphase.h"

# files that see struct inphase_core: they run on the cycle thread, or make, end or ask a core
SEES_CORE = {
    "acquire.c",
    "act.c",
    "arrival.c",
    "client_page.c",
    "clock.c",
    "collect.c",
    "core.c",
    "cycle.c",
    "descriptor.c",
    "device.c",
    "estop.c",
    "gpio.c",
    "guard.c",
    "handover.c",
    "lateness.c",
    "lease.c",
    "lockstep.c",
    "observed.c",
    "pace.c",
    "park.c",
    "post.c",
    "realtime.c",
    "reference.c",
    "rest.c",
    "sensor.c",
    "setpoint.c",
    "state.c",
    "timing.c",
    "twin.c",
}
# headers without a file of code of their name
INLINE = {"relaxed.h", "sentinel_page.h", "sums.h"}
PROGRAMS = {"guard_process.c", "sentinel.c"}  # each has a main of its own

COLUMNS = 100
LINES_PER_FILE = 600
LINES_PER_FUNCTION = 60
LONG_FILES = {
    "src/device_clock.c": 620,
    "src/guard_process.c": 700,
    "src/limiter.c": 680,
    "src/model.c": 700,
    "src/twin.c": 650,
}
LONG_FUNCTIONS: dict[str, int] = {}


def bare(path: Path) -> str:
    """A C file without comments, strings and includes; its lines stay where they are."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    text = re.sub(r"/\*.*?\*/|//[^\n]*", blank, path.read_text(), flags=re.DOTALL)
    return re.sub(r'"(?:\\.|[^"\\\n])*"|^#include[^\n]*', blank, text, flags=re.MULTILINE)


def functions(path: Path) -> Iterator[tuple[str, bool, str]]:
    """Name, whether it is static, and body of each function that a file defines."""
    pattern = r"^((?:[a-z_][\w *]*?)\b(\w+)\([^;{}]*?\))\n\{\n(.*?)^\}"
    for match in re.finditer(pattern, bare(path), re.DOTALL | re.MULTILINE):
        yield match[2], match[1].startswith("static"), match[0]


def declared(path: Path) -> set[str]:
    """The functions that a header declares without a body."""
    pattern = r"^[a-z][\w *]*?\b(\w+)\([^;{}]*\);"
    return set(re.findall(pattern, bare(path), re.DOTALL | re.MULTILINE))


def offered(path: Path) -> set[str]:
    """Whatever else of a header a file can name: types, constants, macros, inline functions."""
    text = bare(path)
    names = declared(path)
    names |= set(re.findall(r"^#define (\w+)", text, re.MULTILINE))
    names |= set(re.findall(r"^static inline [\w *]*?\b(\w+)\(", text, re.MULTILINE))
    names |= set(re.findall(r"^((?:struct|enum) \w+) \{", text, re.MULTILINE))
    for body in re.findall(r"^enum \w+ \{(.*?)\}", text, re.DOTALL | re.MULTILINE):
        names |= set(re.findall(r"(?:^|,)\s*(\w+)", body))
    for group in re.findall(r"^extern const [\w ]*?(\w+(?:, \w+)*);", text, re.MULTILINE):
        names |= set(group.split(", "))
    return names


FILES = sorted(SOURCES.glob("*.c"))
HEADERS = sorted(SOURCES.glob("*.h"))
DEFINED = {
    name: path.name
    for path in FILES
    if path.name not in PROGRAMS
    for name, is_static, _ in functions(path)
    if not is_static
}


def called(path: Path) -> set[str]:
    """The functions of other files that a file calls, or hands on."""
    own = {name for name, *_ in functions(path)}
    bodies = " ".join(body for *_, body in functions(path))
    # a member of that name is no function: what a table of functions calls is not known here
    found = re.findall(r"(?<![\w.>])(?<!struct )(\w+)\b(?!\s*:)", bodies)
    return set(found) & (set(DEFINED) - own)


CALLS = {path.name: {DEFINED[name] for name in called(path)} for path in FILES}


def includes(path: Path) -> set[str]:
    """The headers of this folder that a file names, and those that these name."""
    found: set[str] = set()
    wanted = [path.name]
    while wanted:
        text = (SOURCES / wanted.pop()).read_text()
        new = set(re.findall(r'^#include "(\w+\.h)"', text, re.MULTILINE)) - found
        found |= new
        wanted += new
    return found


def test_files_call_each_other_in_no_circle() -> None:
    left = {name: set(calls) for name, calls in CALLS.items()}
    while ready := {name for name, calls in left.items() if not calls & set(left)}:
        for name in ready:
            del left[name]
    assert not left, (
        f"among these is a circle: { {k: sorted(v & set(left)) for k, v in left.items()} }"
    )


def test_calls_are_found() -> None:
    assert {"collect.c", "act.c", "device.c", "state.c"} <= CALLS["cycle.c"]
    assert "guard_page.c" in CALLS["guard_process.c"]
    assert not CALLS["kinematics.c"]


def test_only_named_files_see_the_core() -> None:
    assert {path.name for path in FILES if "core.h" in includes(path)} == SEES_CORE


def test_no_header_but_its_own_shows_the_core() -> None:
    assert [path.name for path in HEADERS if "core.h" in includes(path)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_function_for_others_stands_in_the_header_of_its_file(path: Path) -> None:
    own = path.with_suffix(".h")
    offers = {name for name, is_static, _ in functions(path) if not is_static} - {"main"}
    private = offers - declared(PUBLIC)
    assert private == (declared(own) if own.exists() else set())


def test_a_header_has_a_file_of_code() -> None:
    alone = {path.name for path in HEADERS if not path.with_suffix(".c").exists()}
    assert alone == INLINE


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_includes_what_it_uses(path: Path) -> None:
    text = bare(path)
    direct = set(re.findall(r'^#include "(\w+\.h)"', path.read_text(), re.MULTILINE))
    own = {name for name, *_ in functions(path)}
    own |= set(re.findall(r"^((?:struct|enum) \w+) \{", text, re.MULTILINE))
    used = set(re.findall(r"(?<![\w.>])(?<!struct )(?<!enum )\w+", text)) - own
    used |= set(re.findall(r"\b(?:struct|enum) \w+", text)) - own
    missing = {
        header.name: sorted(offered(header) & used)
        for header in HEADERS
        if header.name not in direct and offered(header) & used
    }
    assert missing == {}


def sources() -> list[Path]:
    """The C files of the core, of its tests, of its fuzz targets and of the benches."""
    found = [path for at in (NATIVE, ROOT / "benches") for path in at.rglob("*.[ch]")]
    return sorted(path for path in found if "build" not in path.relative_to(ROOT).parts)


def test_no_line_is_longer_than_the_style_allows() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > COLUMNS
    ]
    assert long == []


def over(lengths: dict[str, int], bound: int, exceptions: dict[str, int]) -> list[str]:
    """What is longer than its bound, and exceptions that nothing needs any more."""
    found = [
        f"{name}: {length} lines, at most {exceptions.get(name, bound)}"
        for name, length in lengths.items()
        if length > exceptions.get(name, bound)
    ]
    return found + [
        f"{name}: is no exception any more" for name in exceptions if lengths.get(name, 0) <= bound
    ]


def test_a_file_has_a_bounded_number_of_lines() -> None:
    lengths = {
        str(path.relative_to(NATIVE)): len(path.read_text().splitlines())
        for path in [*FILES, *HEADERS]
    }
    assert over(lengths, LINES_PER_FILE, LONG_FILES) == []


def test_a_function_fits_a_screen() -> None:
    lengths = {
        f"{path.relative_to(NATIVE)}: {name}": body.count("\n") + 1
        for path in [*FILES, *sorted((NATIVE / "tests").glob("*.c"))]
        for name, _, body in functions(path)
    }
    assert over(lengths, LINES_PER_FUNCTION, LONG_FUNCTIONS) == []


def test_a_program_has_a_main_and_no_other_file_does() -> None:
    mains = {path.name for path in FILES if "main" in {name for name, *_ in functions(path)}}
    assert mains == PROGRAMS


def test_functions_are_found() -> None:
    found = {name for path in FILES for name, *_ in functions(path)}
    assert {"cycle_main", "stage_act", "inphase_core_open", "limit_position", "main"} <= found
    assert len(found) > 500
