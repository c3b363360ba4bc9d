"""The folder for what stays of this user's robots: histories, logs, recordings."""

import os
from pathlib import Path


def default_state_folder() -> Path:
    """The folder where none is given: `~/.local/state/inphase`, or below XDG_STATE_HOME."""
    base = os.environ.get("XDG_STATE_HOME", str(Path.home() / ".local" / "state"))
    return Path(base) / "inphase"
