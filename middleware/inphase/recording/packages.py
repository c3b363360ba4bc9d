"""The packages of other people that recordings need."""

from importlib import util

from inphase.errors import RecordingError, install

_NEEDED = ("mcap", "google.protobuf", "zlib_ng")


def require(*more: str) -> None:
    """Raise RecordingError, with the remedy, for a package that is not there. more: modules that
    are needed besides."""
    for module in (*_NEEDED, *more):
        if not _is_there(module):
            raise RecordingError(
                f"a recording needs a package that is not there; {install(module)}"
            )


def _is_there(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False
