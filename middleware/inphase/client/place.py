"""The place where services listen on this host: a folder of their user alone."""

import os
from pathlib import Path

from inphase.errors import ServiceError
from inphase.host import endpoint

SERVICE = "INPHASE_SERVICE"
"""in the environment of a robot's processes: the address of the service that keeps it up"""


def run_folder() -> Path:
    """The folder of the sockets of this user's services; nobody else can use or replace them.

    It is made where there is none. Raises ServiceError.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base) / "inphase" if base else Path(f"/dev/shm/inphase-service-{os.geteuid()}")
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        endpoint.check_folder(folder)
    except OSError as error:
        raise ServiceError(f"{folder} cannot be used: {error}; remove it") from error
    return folder


def local_address(name: str) -> str:
    """Of a socket of this user's services. Raises ServiceError."""
    return f"ipc://{run_folder() / name}"
