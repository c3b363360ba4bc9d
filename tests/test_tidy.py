"""The house rules that a machine can keep: rooms and their levels, who sees what, sizes, names.

Each list of exceptions fails when an entry is no longer needed.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "middleware" / "inphase"
DRIVERS = ROOT / "drivers" / "inphase_drivers"

# a module imports its own room, and rooms of a lower level
LEVEL = {
    "schedule": 1,
    "access": 2,
    "host": 2,
    "doctor": 3,
    "frames": 3,
    "devices": 4,
    "models": 4,
    "plan": 5,
    "core": 6,
    "policy": 7,
    "world": 7,
    "recording": 7,
    "client": 8,
    "export": 8,
    "viewing": 8,
    "timing": 8,
    "web": 9,
    "runtime": 10,
    "episodes": 11,
    "gate": 12,
    "replay": 12,
    "service": 12,
    "testing": 12,
    "command": 13,
}
# what every room may import; these import each other at most
GROUND = {"inphase.errors", "inphase.exchange", "inphase.driver", "inphase.remote"}
# what drivers, schedules and pages import: they name what a room has, and have nothing themselves
FACES = {
    "inphase": {"client", "episodes", "frames", "recording", "schedule"},
    "inphase.__main__": {"command"},
    "inphase.camera": {"devices"},
    "inphase.emulation": {"world"},
    "inphase.follow": {"policy"},
    "inphase.frame": {"frames"},
    "inphase.gym": {"episodes"},
    "inphase.packets": {"devices", "frames"},
    "inphase.schedule": {"schedule"},
    "inphase.serial_port": {"devices"},
    "inphase.serial_sensor": {"devices"},
    "inphase.testing": {"testing"},
    "inphase.video": {"devices"},
}
DRIVER_MAY_IMPORT = {
    "inphase.camera",
    "inphase.driver",
    "inphase.errors",
    "inphase.packets",
    "inphase.serial_port",
    "inphase.serial_sensor",
    "inphase.video",
    "inphase.emulation",  # the emulator hosts a simulated world, whose devices it answers for
}
# what drivers of one standard or kind share; no device, no library of a vendor
STANDARDS = {"genicam", "servo_driver", "servo_registers", "servo_scan", "tracking"}
SEES_C = {
    "inphase.core.arrays",
    "inphase.core.batch",
    "inphase.core.config",
    "inphase.core.core",
    "inphase.core.kept",
    "inphase.core.lockstep_config",
    "inphase.core.played_store",
    "inphase.core.realtime",
    "inphase.core.trace",
    "inphase.devices.device_clock",
    "inphase.doctor.wakes",
    "inphase.devices.packet_fields",
    "inphase.devices.packets",
    "inphase.devices.video",
    "inphase.frames.message",
    "inphase.gate.trap",
    "inphase.frames.sending",
    "inphase.frames.store",
    "inphase.host.process",
    "inphase.policy.command_buffer",
    "inphase.policy.model_policy",
    "inphase.policy.sandbox",
    "inphase.runtime.attribution.sentinel",
    "inphase.runtime.guarding.guard",
    "inphase.runtime.requests.stops",
    "inphase.runtime.workers.worker_supervisor",
    "inphase.runtime.workers.worker",
}
# libraries that the rooms below a level know nothing of
LIBRARY_FROM = {
    "zmq": "access",
    "uvloop": "web",
    "torch": "policy",
    "onnxruntime": "policy",
    "websockets": "policy",
    "PIL": "policy",
    "mujoco": "world",
    "click": "command",
    "rich": "plan",
    "mcap": "recording",
    "foxglove": "viewing",
    "rerun": "viewing",
    "starlette": "web",
    "zeroconf": "client",
    "ifaddr": "client",
    "uvicorn": "web",
    "cryptography": "web",
    "prometheus_client": "web",
    "google": "recording",
    "zlib_ng": "recording",
    "av": "export",
    "pyarrow": "export",
    "gymnasium": "episodes",
    "ray": "episodes",
}

FILES_PER_ROOM = 16
LINES_PER_FILE = 500
LINES_PER_FUNCTION = 60
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}
# class names that a second module has too
TWICE: set[str] = set()
# words that no file and no folder has in its name
SAYS_NOTHING = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}
COPIED_WHOLE = {"inphase.remote"}  # users copy this file: it repeats what it needs


def module_name(path: Path, root: Path = PACKAGE) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "templates" not in path.relative_to(PACKAGE).parts
}
SOURCES = [*MODULES.values(), *sorted(DRIVERS.rglob("*.py"))]
NAMED = re.compile(r"(inphase(\.\w+)+)(:\w+)?")


@cache
def named(path: Path) -> set[str]:
    """The modules of this package that a string of a file names, to import or to start them."""
    return {
        match[1]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if (match := NAMED.fullmatch(node.value))
    }


@cache
def imports(path: Path) -> set[str]:
    """Every name that a file imports, anywhere in it, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{origin(node, path)}.{alias.name}" for alias in node.names}
    return found


def origin(node: ast.ImportFrom, path: Path) -> str:
    """The module that a `from` names, also one that counts from the file's own folder."""
    parts = [node.module] if node.module else []
    if node.level:
        folder = path.parents[node.level - 1]
        root = PACKAGE if folder.is_relative_to(PACKAGE) else DRIVERS
        parts = [*folder.relative_to(root.parent).parts, *parts]
    return ".".join(parts)


@cache
def own_imports(path: Path) -> set[str]:
    """The modules of this package that a file imports."""
    found = set()
    for name in imports(path):
        module = name
        while module and module not in MODULES and module != "inphase._core":
            module = module.rpartition(".")[0]
        found |= {module} - {""}
    return found


def top_imports(path: Path) -> set[str]:
    """The top-level packages that a file imports."""
    return {name.split(".")[0] for name in imports(path)}


def room(name: str) -> str:
    """The room of a module; "" for what stands beside the rooms."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file, with its number of lines."""

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}.{child.name}".lstrip(".")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                yield name, child.end_lineno - child.lineno + 1
            yield from visit(child, name)

    return visit(ast.parse(path.read_text()), "")


def shown(path: Path) -> str:
    """A path as the lists of exceptions have it."""
    return str(path.relative_to(ROOT))


# ---- rooms -----------------------------------------------------------------------------------


def test_every_folder_is_a_room_with_a_level() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == set(LEVEL)


def test_what_stands_beside_the_rooms_is_a_face_or_ground() -> None:
    beside = {name for name in MODULES if not room(name)}
    faces_of_rooms = {name for name in FACES if room(name)}
    assert beside == GROUND | (set(FACES) - faces_of_rooms)


def test_a_face_shows_its_own_rooms() -> None:
    for name, allowed in FACES.items():
        seen = {room(other) for other in own_imports(MODULES[name])} - {""}
        assert seen <= allowed, f"{name} imports {seen - allowed}"


def test_a_module_imports_its_own_room_and_lower_ones() -> None:
    for name in set(MODULES) - set(FACES):
        check_rooms(name)


def check_rooms(name: str) -> None:
    others = own_imports(MODULES[name]) | (named(MODULES[name]) & set(MODULES) - set(FACES))
    for other in others - GROUND - {"inphase._core"}:
        here, there = room(name), room(other)
        assert here, f"{name} imports {other}: what stands beside the rooms imports no room"
        assert there, f"{name} imports {other}: a room imports the room that has it, not its face"
        assert here == there or LEVEL[there] < LEVEL[here], f"{name} imports {other}"


@pytest.mark.parametrize("name", sorted(FACES))
def test_a_face_defines_nothing(name: str) -> None:
    if name == "inphase":  # its names are imported when they are first used
        return
    tree = ast.parse(MODULES[name].read_text())
    kinds = (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign, ast.If)
    assert all(isinstance(node, kinds) for node in tree.body)


def test_imports_make_no_circle() -> None:
    faces = set(FACES) | {"inphase"}
    graph = {name: own_imports(path) - faces for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name in done:
            return
        for target in graph.get(name, set()):
            visit(target, (*way, name))
        done.add(name)

    for name in graph:
        visit(name, ())


def test_nothing_imports_the_command_line() -> None:
    found = {name for name in MODULES if "inphase.command.cli" in own_imports(MODULES[name])}
    assert found <= {"inphase.__main__", "inphase.command.cli"}


# ---- who sees what ---------------------------------------------------------------------------


def test_only_named_modules_see_the_c_module() -> None:
    assert {name for name in MODULES if "inphase._core" in own_imports(MODULES[name])} == SEES_C


def test_a_room_knows_no_library_of_a_higher_one() -> None:
    for name in set(MODULES) - GROUND:
        for library in top_imports(MODULES[name]) & set(LIBRARY_FROM):
            assert LEVEL[room(name)] >= LEVEL[LIBRARY_FROM[library]], f"{name} imports {library}"


def test_the_middleware_names_no_driver() -> None:
    found = {name for name in MODULES if "inphase_drivers" in top_imports(MODULES[name])}
    assert found == set()


@pytest.mark.parametrize("path", sorted(DRIVERS.rglob("*.py")), ids=lambda path: path.stem)
def test_a_driver_knows_the_contract_and_nothing_else(path: Path) -> None:
    assert own_imports(path) <= DRIVER_MAY_IMPORT
    own = path.relative_to(DRIVERS).with_suffix("").parts[0]
    used = {name.split(".")[1] for name in imports(path) if name.startswith("inphase_drivers.")}
    tables = {"inphase_drivers.dynamixel.models", "inphase_drivers.damiao.models"}
    if own == "emulator" and _of_drivers(path) <= tables:
        used -= {"dynamixel", "damiao"}  # units and ranges of the models: tables, no code
    assert used <= {own} | STANDARDS


def _of_drivers(path: Path) -> set[str]:
    """The modules of drivers that a file of the emulator imports."""
    names = {name.rpartition(".")[0] for name in imports(path)}
    return {name for name in names if re.match(r"inphase_drivers\.(?!emulator)", name)}


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "schedules").rglob("*.py")), *sorted(PACKAGE.rglob("templates/**/*.py"))],
    ids=lambda path: path.name,
)
def test_schedules_and_templates_import_faces_alone(path: Path) -> None:
    assert own_imports(path) <= set(FACES) | GROUND


def test_a_module_that_is_named_in_a_string_is_there() -> None:
    there = {*MODULES, "inphase.drivers"}
    assert {
        name: named(path) - there for name, path in MODULES.items() if named(path) - there
    } == {}


def test_no_list_has_an_entry_that_nothing_needs() -> None:
    drivers = [*DRIVERS.rglob("*.py"), *PACKAGE.rglob("templates/**/*.py")]
    assert set().union(*map(own_imports, drivers)) >= DRIVER_MAY_IMPORT
    assert {path.stem for path in DRIVERS.iterdir()} >= STANDARDS
    assert set(MODULES) >= SEES_C
    assert set().union(*map(top_imports, MODULES.values())) >= set(LIBRARY_FROM)
    for face, rooms in FACES.items():
        used = own_imports(MODULES[face]) | named(MODULES[face])
        assert {room(other) for other in used} - {""} == rooms, face


# ---- sizes and names -------------------------------------------------------------------------


def test_a_room_has_a_bounded_number_of_files() -> None:
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {shown(folder): n for folder, n in folders.items() if n > FILES_PER_ROOM} == {}


def test_a_file_has_a_bounded_number_of_lines() -> None:
    lines = {shown(path): len(path.read_text().splitlines()) for path in SOURCES}
    long = {path for path, n in lines.items() if n > LINES_PER_FILE}
    assert long == set(LONG_FILES)
    assert {path: n for path, n in LONG_FILES.items() if lines[path] > n} == {}


def test_a_function_fits_a_screen() -> None:
    long = {
        f"{shown(path)}: {name}": lines
        for path in SOURCES
        for name, lines in functions(path)
        if lines > LINES_PER_FUNCTION
    }
    assert set(long) == set(LONG_FUNCTIONS)
    assert {name: n for name, n in LONG_FUNCTIONS.items() if long[name] > n} == {}


def classes(name: str) -> list[str]:
    """The classes that a module defines."""
    tree = ast.parse(MODULES[name].read_text())
    return [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_a_class_name_occurs_once() -> None:
    names = Counter(one for name in MODULES if name not in COPIED_WHOLE for one in classes(name))
    assert {name for name, n in names.items() if n > 1} == TWICE
    for copied in COPIED_WHOLE:
        assert set(classes(copied)) & set(names), f"{copied} repeats no class any more"


def test_a_name_says_more_than_that_there_is_something() -> None:
    for path in SOURCES:
        parts = path.relative_to(ROOT).with_suffix("").parts
        words = {word for part in parts for word in part.split("_")}
        assert not words & SAYS_NOTHING, shown(path)
