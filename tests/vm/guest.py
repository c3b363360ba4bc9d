"""What the guest tests share: a test names the device it needs, and skips without it."""

import os
from pathlib import Path

import pytest

GUEST = os.environ.get("INPHASE_GUEST") == "1"


def need(path: str, what: str) -> None:
    """Skip a test where the kernel has no such device; in the guest its absence is a failure."""
    if Path(path).exists():
        return
    if GUEST:
        pytest.fail(f"the guest has no {what}: {path} is missing")
    pytest.skip(f"no {what} here ({path} is missing): run `make vm-test`")
