"""The page's files, read once: an answer waits for no disk and for no thread."""

import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

_FIRST = "index.html"


class _File(NamedTuple):
    content: bytes
    kind: str
    tag: str


class PageFiles:
    """All files of a folder, by their path in it. names: other paths of some."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._files = {
            path.relative_to(folder).as_posix(): _read(path)
            for path in folder.rglob("*")
            if path.is_file()
        }
        for path, name in names.items():
            self._files[path.removeprefix("/")] = self._files[name]

    async def answer(self, request: Request) -> Response:
        """The file that the path names."""
        found = self._files.get(request.path_params["path"] or _FIRST)
        if found is None:
            return PlainTextResponse("there is no such page here\n", 404)
        headers = {"ETag": found.tag}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.content, headers=headers, media_type=found.kind)


def _read(path: Path) -> _File:
    content = path.read_bytes()
    kind, _ = mimetypes.guess_type(path.name)
    return _File(content, kind or "text/plain", f'"{hashlib.sha256(content).hexdigest()[:16]}"')
