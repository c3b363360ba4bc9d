"""What `import inphase` brings along: next to nothing."""

import subprocess
import sys

import inphase


def modules_after(statement: str) -> set[str]:
    """Names of the top-level modules that a fresh interpreter has after a statement."""
    code = f"{statement}; import sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_importing_the_package_imports_no_library() -> None:
    heavy = {"numpy", "zmq", "msgpack", "msgspec", "click", "rich", "uvloop", "asyncio", "serial"}
    found = modules_after("import inphase")
    assert not heavy & found
    assert {name for name in found if name.startswith("inphase")} == {"inphase"}


def test_loading_a_schedule_needs_no_transport() -> None:
    assert not {"zmq", "rich", "uvloop"} & modules_after("import inphase; inphase.load")


def test_every_public_name_is_there() -> None:
    for name in inphase.__all__:
        assert getattr(inphase, name) is not None
    assert set(inphase.__all__) == {
        "Frame",
        "Recording",
        "Runner",
        "__version__",
        "load",
        "rollout",
        "serve_policy",
        "subscribe",
    }
