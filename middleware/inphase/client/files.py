"""Files to and from a service, piece by piece: each is asked for, so that a slow way holds up
nobody."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from inphase.client.connection import ServiceConnection
from inphase.client.kinds import PIECE_BYTES
from inphase.errors import ServiceError

Watch = Callable[[int, int], None]


class FileUpload:
    """A file that is sent under its hash. Pieces that are there already are not sent again."""

    def __init__(self, connection: ServiceConnection, robot: str, path: Path) -> None:
        self._connection = connection
        self._robot = robot
        self._path = path
        self._size = path.stat().st_size
        with path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def send(self, watch: Watch) -> None:
        """Send what is missing. Raises ServiceError where it is refused."""
        here, tries = 0, 0
        with self._path.open("rb") as file:
            while here < self._size:
                file.seek(here)
                reply = self._connection.ask(
                    "upload",
                    robot=self._robot,
                    sha256=self.sha256,
                    ending=self._path.suffix,
                    size=self._size,
                    offset=here,
                    piece=file.read(PIECE_BYTES),
                )
                tries = 0 if int(reply["here"]) > here else tries + 1
                if tries > 3:
                    raise ServiceError(f"{self._path} does not get on: {here} bytes are there")
                here = int(reply["here"])
                watch(here, self._size)


def fetch_recording(
    connection: ServiceConnection, robot: str, lease: int, path: Path, watch: Watch
) -> None:
    """Fetch the recording of a lease. One that is cut leaves no file."""
    here, size = 0, 1
    with path.open("xb") as file:
        try:
            while here < size:
                reply = connection.ask("fetch", robot=robot, lease=lease, offset=here)
                size, piece = int(reply["size"]), bytes(reply["piece"])
                if not piece:
                    break
                file.write(piece)
                here += len(piece)
                watch(here, size)
        except BaseException:
            path.unlink()
            raise
