"""The folder of a service: its history, its audit log and its recordings."""

from pathlib import Path

from inphase.errors import ServiceError
from inphase.host.state_folder import default_state_folder


def state_folder(wanted: Path | None) -> Path:
    """The folder of a service's history, audit log and recordings, made where there is none.

    wanted: None is `~/.local/state/inphase`. Raises ServiceError.
    """
    folder = wanted or default_state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "recordings").mkdir(exist_ok=True)
    except OSError as error:
        raise ServiceError(f"{folder} cannot be made: {error.strerror}; give --folder") from error
    return folder
