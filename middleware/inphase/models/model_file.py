"""A file that a policy is made of, a network or its weights: how its bytes are had, and refused."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from inphase.errors import InphaseError, ScheduleError


class Refused(ScheduleError):  # noqa: N818 - an answer
    """A file is not one that is taken. The text says what, where, and what to do."""


def read_bytes(path: Path, at_most: int) -> bytes:
    """The bytes of a file, one more than `at_most` where it is larger. Raises Refused."""
    # a pipe or a device would be waited for
    if path.exists() and not path.is_file():
        raise Refused(f"{path}: is no file; give one file beside the schedule")
    try:
        with path.open("rb") as file:
            return file.read(at_most + 1)
    except OSError as error:
        raise Refused(
            f"{path}: cannot be read: {error.strerror}; give a file beside the schedule"
        ) from error


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors raised inside name the file, and so do exceptions that our reader did not foresee."""
    try:
        yield
    except Refused as error:
        raise Refused(f"{path}: {error}") from error
    except InphaseError:
        raise
    except Exception as error:  # the file is somebody else's
        raise Refused(f"{path}: cannot be read: {error!r}; export it again") from error
