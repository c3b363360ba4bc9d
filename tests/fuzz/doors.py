"""A fuzz target of atheris for each door of the Python side: whatever comes, the answer is ours.

python tests/fuzz/doors.py DOOR [options and folders of libFuzzer]
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from inphase import onnx_file, safetensors_file, schedule, wire
from inphase.errors import InphaseError
from inphase.message import Form

_SCRATCH = Path(tempfile.mkdtemp(prefix="inphase-fuzz-"))


def _description(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        Form.from_description(wire.unpack_description(data))


def _schedule(data: bytes) -> None:
    path = _SCRATCH / "robot.toml"
    path.write_bytes(data)
    schedule.load(path)


DOORS: dict[str, Callable[[bytes], object]] = {
    "description": _description,
    "schedule": _schedule,
    "onnx": lambda data: onnx_file.check(Path("policy.onnx"), data),
    "safetensors": lambda data: safetensors_file.check(Path("net.safetensors"), data),
}


def main() -> None:
    """Fuzz the door that is named."""
    door = DOORS[sys.argv.pop(1)]

    def open_with(data: bytes) -> None:
        with contextlib.suppress(InphaseError):
            door(data)

    # the hooks on imports do not see the loader of an editable installation
    atheris.instrument_all()
    atheris.Setup(sys.argv, open_with)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
