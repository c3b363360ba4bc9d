"""A peer answers for the device in a test of its driver, and does to it what the test asks."""

from typing import Any

import pytest
from numpy.typing import NDArray


class Peer:
    """It answers for the device, and a test can disturb it.

    A subclass sets `options`, and defines as much of the rest as it can. Each call has its effect
    before it returns. `heal` ends what `silence`, `mute`, `spoil`, `disguise`, `forget` and
    `stall` began.
    """

    options: dict[str, Any]
    """the keys of a `[device.NAME]` table that reach it, without `driver`"""

    wire: str = "port"
    """the key with the serial port, or the port of UDP. For a driver with its own `read`, a proxy
    is put there, which plays replies in other parts"""

    @property
    def place(self) -> str:
        """How a person knows where it is plugged in: an error that concerns it holds this."""
        return str(self.options.get("host") or self.options.get("port"))

    def silence(self) -> None:
        """Answer nothing any more."""

    def spoil(self) -> None:
        """Damage every answer on its way, so that none may count."""

    def disguise(self) -> None:
        """Answer as another device would, or as this one in another set-up: `open` refuses it."""

    def forget(self) -> None:
        """Answer everything but the question of a cycle, as firmware that is too old for it."""

    def heal(self) -> None:
        """Answer as before."""

    def stall(self) -> None:
        """Hold back its bytes, like a link that stands still. `heal` lets all of them out, in their
        order. Requests meanwhile are answered as well."""

    def flood(self, count: int) -> int:
        """Take so many samples now, without being asked, and send them all at once; `taken_ns` of
        the last one. Also where it is silent otherwise."""
        return 0

    def taken_ns(self, value: NDArray[Any]) -> int:
        """When the device was asked for the sample with this value, as the driver gives it.

        For a free-running device: when it took the sample. By time.monotonic_ns, of the last
        hundred samples, each of which has a value of its own. Raises KeyError if it never sent such
        a value.
        """
        return 0

    def unplug(self) -> None:
        """Go, as when a cable is drawn."""

    def replug(self) -> None:
        """Come back, in the same place."""

    def asked(self) -> int:
        """How often anything was asked of it since it was started."""
        return 0

    def speed(self) -> float:
        """Of its fastest joint, measured, in the actuator's unit per second."""
        return 0.0

    def mute(self) -> None:
        """One of several members, a servo or a node, answers nothing and does nothing any more."""

    def power(self) -> list[bool]:
        """Which of its members have power."""
        return []


def able(device: Peer, *methods: str) -> None:
    """Skip where a peer does not define a method."""
    for method in methods:
        if getattr(type(device), method) is getattr(Peer, method):
            pytest.skip(f"{type(device).__name__} lacks {method}()")
