"""The house rules that a machine can keep: who may import whom, sizes, names."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "middleware" / "inphase"
DRIVERS = ROOT / "drivers" / "inphase_drivers"

SEES_C = {
    "core",
    "device_clock",
    "guard",
    "message",
    "model_policy",
    "packets",
    "policy",
    "process",
    "sandbox",
    "stops",
    "store",
    "video",
    "worker",
    "workers",
}
CORE_SIDE = {
    "alignment",
    "device_clock",
    "core",
    "distribution",
    "driver",
    "errors",
    "estop_rules",
    "fit",
    "frame",
    "limits",
    "model_binding",
    "model_rules",
    "names",
    "onnx_file",
    "safetensors_file",
    "model_file",
    "protobuf",
    "pace_rules",
    "packets",
    "parts",
    "plan",
    "rules",
    "schedule",
    "shaping",
    "simulation",
    "store",
    "tables",
    "timing",
    "timing_model",
    "wire",
    "world",
}
OUTSIDE = {
    "zmq",
    "uvloop",
    "click",
    "rich",
    "mujoco",
    "gymnasium",
    "foxglove",
    "onnxruntime",
    "torch",
}
DRIVER_MAY_IMPORT = {
    "inphase.driver",
    "inphase.packets",
    "inphase.errors",
    "inphase.serial_port",
    "inphase.video",
    "inphase.serial_sensor",
    # the emulator hosts a simulated world, whose devices it answers for
    "inphase.wall_world",
    "inphase.world_part",
}
STANDARDS = {"genicam"}  # what drivers of one standard share; no device, no library of a vendor


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(path: Path) -> set[str]:
    """The names of this package's modules that a file imports."""
    modules = {file.stem for file in PACKAGE.glob("*.py")} | {"_core"}
    parts = (name.split(".") for name in imports(path) if name.startswith("inphase."))
    return {name[1] for name in parts if name[1] in modules}


MODULES = sorted(PACKAGE.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_only_named_modules_see_the_c_module(path: Path) -> None:
    assert ("_core" in own_imports(path)) == (path.stem in SEES_C)


@pytest.mark.parametrize("name", sorted(CORE_SIDE))
def test_the_core_side_knows_no_transport_and_no_command_line(name: str) -> None:
    tops = {module.split(".")[0] for module in imports(PACKAGE / f"{name}.py")}
    assert not tops & OUTSIDE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_nothing_imports_the_command_line(path: Path) -> None:
    assert "__main__" not in own_imports(path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_middleware_names_no_driver(path: Path) -> None:
    assert not any(name.startswith("inphase_drivers") for name in imports(path))


def test_imports_make_no_circle() -> None:
    graph = {path.stem: own_imports(path) for path in MODULES if path.stem != "__init__"}
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


@pytest.mark.parametrize("path", sorted(DRIVERS.rglob("*.py")), ids=lambda path: path.stem)
def test_a_driver_knows_the_contract_and_nothing_else(path: Path) -> None:
    ours = {
        name for name in imports(path) if name.startswith("inphase.") and len(name.split(".")) == 2
    }
    assert ours <= DRIVER_MAY_IMPORT
    others = {file.stem for file in DRIVERS.glob("*.py")} - {path.stem, "__init__"} - STANDARDS
    assert not {f"inphase_drivers.{other}" for other in others} & imports(path)


def test_every_flag_and_reason_has_the_name_that_the_header_gives_it() -> None:
    from inphase import packets, wire
    from inphase._core import lib

    for number, name in enumerate(packets.REASONS):
        assert getattr(lib, f"INPHASE_REASON_{name.upper()}") == number
    assert len(packets.REASONS) == lib.INPHASE_REASONS
    for number, name in enumerate(wire.STATUSES):
        assert getattr(lib, f"INPHASE_{name}") == number
    for bit, name in enumerate(wire.FRAME_FLAGS):
        assert getattr(lib, f"INPHASE_FLAG_{name}") == 1 << bit
    for bit, name in enumerate(wire.ACT_FLAGS):
        assert getattr(lib, f"INPHASE_ACT_{name}") == 1 << bit
    assert lib.INPHASE_ABSENT == wire.ABSENT


def test_the_records_of_python_have_the_sizes_of_the_header() -> None:
    from inphase import wire
    from inphase._core import ffi

    assert wire.HEADER.size == ffi.sizeof("struct inphase_frame")
    assert wire.ROW.size == ffi.sizeof("struct inphase_row")
    assert wire.ACT.size == ffi.sizeof("struct inphase_act")
