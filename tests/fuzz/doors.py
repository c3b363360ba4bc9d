"""A fuzz target of atheris for each door of the Python side: whatever comes, the answer is ours.

python tests/fuzz/doors.py DOOR [options and folders of libFuzzer]
"""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

from inphase import schedule
from inphase.errors import InphaseError, WireError
from inphase.frames import wire
from inphase.frames.message import Form
from inphase.host import zmtp
from inphase.models import onnx_file, safetensors_file

_SCRATCH = Path(tempfile.mkdtemp(prefix="inphase-fuzz-"))


def _description(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        Form.from_description(wire.unpack_description(data))


def _schedule(data: bytes) -> None:
    path = _SCRATCH / "robot.toml"
    path.write_bytes(data)
    schedule.load(path)


def _messages(pieces: list[bytes]) -> tuple[list[zmtp.Message], str]:
    """What a connection makes of pieces, and why it ended."""
    connection = zmtp.Connection(kept=2_000, most=20_000)
    found: list[zmtp.Message] = []
    try:
        for piece in pieces:
            found += connection.feed(piece)
    except WireError as error:
        return found, str(error)
    return found, ""


def _zmtp(data: bytes) -> None:
    """The first byte says how long the pieces are: in one piece it is the same."""
    size, data = 1 + data[0] if data else 1, data[1:]
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    (whole, why), (found, end) = _messages([data]), _messages(pieces)
    assert end == why and (why or found == whole), (found, end, whole, why)


DOORS: dict[str, Callable[[bytes], object]] = {
    "description": _description,
    "schedule": _schedule,
    "onnx": lambda data: onnx_file.check(Path("policy.onnx"), data),
    "zmtp": _zmtp,
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
