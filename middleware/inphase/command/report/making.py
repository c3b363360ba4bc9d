"""Making a report: a page and pictures of a recording, as files that replace no other's."""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import NamedTuple

from inphase.errors import RecordingError, install
from inphase.recording.recording import Recording

_HEAD = 1024
"""bytes of a file in which its mark stands"""


class RunReport(NamedTuple):
    """Files that were made, and their first words."""

    files: list[Path]
    verdict: list[str]
    losses: list[str]


def report(
    path: Path, page: Path, folder: Path | None, progress: Callable[[int, int], None]
) -> RunReport:
    """Write the page of a recording, and PNGs into a folder where one is given.

    progress: is told how many frames of how many are done. Raises RecordingError, and then nothing
    is written, for a recording that cannot be read or has no frame, and for a file that is there
    and no report.
    """
    for module in ("matplotlib", "mcap", "google.protobuf"):
        if util.find_spec(module.partition(".")[0]) is None:
            raise RecordingError(f"a report needs a package that is not there; {install(module)}")
    _refuse(page, path)
    if folder is not None and not (folder.is_dir() or folder.parent.is_dir()):
        raise RecordingError(f"{folder}: there is no folder {folder.parent}; make it")
    with Recording(path) as recording:
        if not len(recording):
            raise RecordingError(f"{path} has no frame, so there is nothing to report")
        return _made(recording, page, folder, lambda done: progress(done, len(recording)))


def _made(
    recording: Recording, page: Path, folder: Path | None, progress: Callable[[int], None]
) -> RunReport:
    from inphase.command.report import findings
    from inphase.command.report import page as pages
    from inphase.command.report.figures import pictures
    from inphase.command.report.measures import measure

    with measure(recording, progress) as found:
        shown = list(pictures(found))
        files = {page: pages.write(found, shown).encode()}
        if folder is not None:
            files |= {folder / f"{one.name}.png": one.png() for one in shown}
        for file in files:
            _refuse(file, recording.path)
        if folder is not None:
            folder.mkdir(exist_ok=True)
        for file, content in files.items():
            _write(file, content)
        return RunReport(list(files), findings.verdict(found), findings.losses(found))


def _refuse(file: Path, recording: Path) -> None:
    """Raise RecordingError for a file that is not to be written: one that is there is replaced
    only if a report made it."""
    if not os.path.lexists(file):
        if file.suffix != ".png" and not file.parent.is_dir():
            raise RecordingError(f"{file}: there is no folder {file.parent}; make it")
        return
    head = b""
    with suppress(OSError), file.open("rb") as there:
        head = there.read(_HEAD)
    if b"inphase report" not in head or file.is_symlink() or not file.is_file():
        raise RecordingError(f"{file} is there already and is no report; give another name")


def _write(file: Path, content: bytes) -> None:
    """All of it, or nothing. Raises RecordingError."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    except OSError as error:
        raise RecordingError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
