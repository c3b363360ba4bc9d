"""The exceptions of inphase: one class per kind of failure, each with its own exit code."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

EXTRAS = {
    "PIL": "web",
    "av": "export",
    "can": "can",
    "canopen": "can",
    "cryptography": "web",
    "cv2": "vision",
    "foxglove": "view",
    "gpiod": "gpio",
    "google": "record",
    "gymnasium": "gym",
    "ifaddr": "web",
    "matplotlib": "plot",
    "mcap": "record",
    "mujoco": "sim",
    "onnxruntime": "onnx",
    "prometheus_client": "web",
    "pyarrow": "export",
    "pypylon": "pylon",
    "pytest": "testing",
    "rapier3d": "rapier",
    "ray": "ray",
    "rerun": "rerun",
    "segno": "web",
    "starlette": "web",
    "uvicorn": "web",
    "websockets": "web",
    "zeroconf": "serve",
    "zlib_ng": "record",
}
"""module -> the extra of inphase that brings it"""


def install(module: str) -> str:
    """The remedy for a module that is not installed."""
    name = module.partition(".")[0]
    return install_extras([EXTRAS[name]]) if name in EXTRAS else f"install it: pip install {name}"


def install_extras(extras: Iterable[str]) -> str:
    """The remedy for extras of inphase that are not installed."""
    return f"install it: pip install 'inphase[{','.join(extras)}]'"


class InphaseError(Exception):
    """The outside world is at fault. The text is meant for a person."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True)
class ScheduleFault:
    """One thing that is wrong in a schedule, or in a file that it names."""

    message: str
    """the fault, with the value, and the remedy"""
    file: str = ""
    line: int = 0
    key: str = ""
    doubts: tuple[str, ...] | None = field(default=None, compare=False)
    """the keys that nothing is concluded from any more; None: `key`"""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.message}" if self.file else self.message


class ScheduleError(InphaseError):
    """A schedule, or a file that it names, is wrong: nothing was started and nothing moved.

    `faults` has every fault, in the order of their lines. The text has a line for each.
    """

    exit_code = 2

    def __init__(self, text: str, faults: Sequence[ScheduleFault] = ()) -> None:
        super().__init__(text)
        self.faults = list(faults) or [ScheduleFault(text)]

    @classmethod
    def of(cls, faults: Iterable[ScheduleFault]) -> "ScheduleError":
        """One error of at least one fault: by file and line, none of them twice."""
        found = list(dict.fromkeys(faults))
        files = [fault.file for fault in found]
        found.sort(key=lambda fault: (files.index(fault.file), fault.line))
        return cls("\n".join(map(str, found)), found)


class DeviceError(InphaseError):
    """A device is absent, refuses its set-up, or is held by another runtime."""

    exit_code = 3


class RealtimeError(InphaseError):
    """The machine does not grant a real-time right that the schedule requires."""

    exit_code = 4


class StoreError(InphaseError):
    """A shared-memory segment cannot be made, mapped or read."""

    exit_code = 5


class RuntimeFault(InphaseError):  # noqa: N818 - a fault, by name
    """The runtime stopped by itself: too many overruns, a dead worker, a failed ramp."""

    exit_code = 6


class WireError(InphaseError):
    """A message over ZeroMQ is not in the format of its page, or in another version of it."""

    exit_code = 9


class RecordingError(InphaseError):
    """A recording cannot be written or read, or something is missing in it."""

    exit_code = 12


def of_missing_package(missing: ModuleNotFoundError) -> RecordingError | None:
    """Say which extra brings a package that recordings need; None: it is no such package."""
    name = (missing.name or "").partition(".")[0]
    if EXTRAS.get(name) not in ("record", "export"):
        return None
    return RecordingError(
        f"a recording needs the package {name}, which is not there; {install(name)}"
    )


class ViewError(InphaseError):
    """A live view cannot be served or sent: a port, a package or a viewer."""

    exit_code = 14


class AccessError(InphaseError):
    """A key, or a file of a service's private folder, cannot be used; or an audit log does not
    fit."""

    exit_code = 16


class ServiceError(InphaseError):
    """A robot's service cannot be started, is not there, or refuses what was asked of it."""

    exit_code = 15


class LeaseRefused(ServiceError):  # noqa: N818 - no fault of anybody
    """The lease of a robot is not to be had, or is not the caller's any more."""


class WorldError(InphaseError):
    """A simulated world cannot be made here, or it failed while it was stepped."""

    exit_code = 10


@contextlib.contextmanager
def of_device(name: str, address: str, what: str) -> Iterator[None]:
    """Around the call of a driver: whatever it raises becomes a DeviceError that names the device.

    A driver's library raises what it likes, `termios.error` or ValueError; none of it may be more
    than the trouble of this one device. what: what was asked of it, as `enable`.
    """
    try:
        yield
    except InphaseError:
        raise
    except Exception as error:
        raise DeviceError(
            f"device {name} ({address}): {what} failed: {type(error).__name__}: {error}"
        ) from error
