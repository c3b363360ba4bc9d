"""What the guest tests share: a test names the device it needs, and skips without it."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

GUEST = os.environ.get("INPHASE_GUEST") == "1"

CAN_PAIR = ("can0", "can1")
"""Two controllers on one wire."""


def need(path: str, what: str) -> None:
    """Skip a test where the kernel has no such device; in the guest its absence is a failure."""
    if Path(path).exists():
        return
    if GUEST:
        pytest.fail(f"the guest has no {what}: {path} is missing")
    pytest.skip(f"no {what} here ({path} is missing): run `make vm-test`")


def tool(name: str, package: str) -> str:
    """The path of a program; skips when it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package {package})")
    return found


@contextmanager
def wire_up() -> Iterator[None]:
    """Both controllers up, at 500 kbit/s."""
    need(f"/sys/class/net/{CAN_PAIR[1]}", "pair of CAN controllers")
    ip = tool("ip", "iproute2")
    for name in CAN_PAIR:
        subprocess.run([ip, "link", "set", name, "down"], check=True)
        setting = ("type", "can", "bitrate", "500000", "restart-ms", "100")
        subprocess.run([ip, "link", "set", name, *setting], check=True)
        subprocess.run([ip, "link", "set", name, "up"], check=True)
    try:
        yield
    finally:
        for name in CAN_PAIR:
            subprocess.run([ip, "link", "set", name, "down"], check=True)
