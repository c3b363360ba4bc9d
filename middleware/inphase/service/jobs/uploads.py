"""Files that clients send: in pieces, each bounded, whole under the hash that was said before.

A file that was cut stays a part, which the same client may go on with. Nothing here opens what a
file holds.
"""

import contextlib
import hashlib
import re
import time
from pathlib import Path

from inphase.client.kinds import PIECE_BYTES
from inphase.errors import ServiceError

FILE_BYTES = 512 << 20
_FOLDER_BYTES = 4 << 30
_PART_S = 3600.0
_HASH = re.compile(r"[0-9a-f]{64}")
ENDINGS = (".onnx", ".safetensors")


class Uploads:
    """A folder of files, each named by its SHA-256. Thread: one. Raises ServiceError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def path(self, sha256: str, ending: str) -> Path | None:
        """A file that is whole; None: it is not here."""
        path = self._name(sha256, ending)
        return path if path.exists() else None

    def put(self, sha256: str, ending: str, size: int, offset: int, piece: bytes) -> int:
        """Add a piece; how many bytes are here then. `size` of them make the file whole.

        A piece that does not follow what is here changes nothing: the answer says where to go on.
        """
        path = self._name(sha256, ending)
        if not 0 < size <= FILE_BYTES or len(piece) > PIECE_BYTES:
            raise ServiceError(f"a file has at most {FILE_BYTES} bytes, a piece {PIECE_BYTES}")
        if path.exists():
            return size
        part = path.with_suffix(path.suffix + ".part")
        here = part.stat().st_size if part.exists() else 0
        if here == 0:
            self._make_room(size)
        if offset != here or here + len(piece) > size:
            return here
        try:
            with part.open("ab") as file:
                file.write(piece)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise ServiceError(f"the piece cannot be kept: {error.strerror}") from error
        here += len(piece)
        if here == size:
            self._finish(part, path, sha256)
        return here

    def _finish(self, part: Path, path: Path, sha256: str) -> None:
        with part.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            part.unlink()
            raise ServiceError(f"the file has the SHA-256 {found}, said was {sha256}; send it anew")
        part.rename(path)

    def _make_room(self, size: int) -> None:
        """Take away parts that nobody goes on with. Raises ServiceError where there is no room."""
        for part in self._folder.glob("*.part"):
            with contextlib.suppress(OSError):
                if time.time() - part.stat().st_mtime > _PART_S:
                    part.unlink()
        used = sum(one.stat().st_size for one in self._folder.iterdir())
        if used + size > _FOLDER_BYTES:
            raise ServiceError(f"{self._folder} is full; its owner may remove files there")

    def _name(self, sha256: str, ending: str) -> Path:
        if not _HASH.fullmatch(sha256) or ending not in ENDINGS:
            raise ServiceError(f"a file is named by its SHA-256 and one of {', '.join(ENDINGS)}")
        return self._folder / f"{sha256}{ending}"
