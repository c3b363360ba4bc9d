"""Follow and Steer: a person moves an arm, by a leader arm or by rates, and it never jumps."""

import numpy as np
from numpy.typing import NDArray

from inphase.frames.frame import Frame
from inphase.frames.shaping import NotThere

_GOOD = ("FRESH", "HELD")
_SETTLE_S = 0.2  # in which making up begins, and ends


class Follow:
    """Commands the positions of a leader's joints, in rad or m.

    `leader` is the sensor with the field `position`, of as many joints as the actuator `arm` has.
    It is FRESH, or HELD where it is slower than the cycle.

    It begins at its first frame, with each episode, after motion was latched, and when the leader
    comes back. It then compares both poses. Joints that are further from each other than `apart`
    raise ValueError in every frame, and nothing follows: a person brings the leader nearer. Any
    other distance is made up at `catch_up` (rad/s or m/s), beside the leader's own motion. The
    first command is where the arm is.

    A command is missing while the leader is not known: the actuator's `on_miss` says what the arm
    does then.
    """

    def __init__(
        self,
        leader: str = "leader",
        arm: str = "arm",
        apart: float | list[float] = 0.5,
        catch_up: float | list[float] = 0.5,
    ) -> None:
        self.leader, self.arm = leader, arm
        self.apart = np.asarray(apart, np.float64)
        self.catch_up = np.asarray(catch_up, np.float64)
        for name, value in (("apart", self.apart), ("catch_up", self.catch_up)):
            if not (np.isfinite(value).all() and (value > 0).all()):
                raise ValueError(f"{name} is above 0, got {value.tolist()}; give positive numbers")
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next frame."""
        self._offset: NDArray[np.float64] | None = None
        self._due_ns = self._begun_ns = 0
        self._episode = 0

    def __call__(self, frame: Frame) -> dict[str, NDArray[np.float64]] | None:
        """Positions of all joints; None while the leader is not known, or motion is latched.

        Raises NotThere before the arm holds anywhere. Raises ValueError where leader and arm are
        too far apart, or of other joints.
        """
        sample, here = frame[self.leader], frame.command[self.arm].applied
        if not np.isfinite(here).all():
            raise NotThere(f"{self.arm} holds nowhere yet")
        if sample.status not in _GOOD or frame.reason != "none":
            self._offset = None
            return None
        there: NDArray[np.float64] = sample.value["position"].copy()
        if not sample.intact:
            return None
        if self._offset is None or frame.episode != self._episode:
            self._offset = self._begin(frame, here, there)
        self._make_up(frame.due_ns)
        return {self.arm: there + self._offset}

    def _begin(
        self, frame: Frame, here: NDArray[np.float64], there: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The distance from the leader to the arm, per joint."""
        self._offset = None
        if there.shape != here.shape:
            raise ValueError(
                f"sensor {self.leader} has {there.size} joints and actuator {self.arm} "
                f"{here.size}; give both devices the same joints, in the same order"
            )
        offset = here - there
        over = np.abs(offset) - self.apart
        if (over > 0).any():
            joint = int(np.argmax(over))
            bound = np.broadcast_to(self.apart, here.shape)[joint]
            raise ValueError(
                f"leader and arm are apart: joint {joint} of {self.leader} is at "
                f"{there[joint]:.2f}, that of {self.arm} at {here[joint]:.2f}, more than "
                f"{bound:g} away; bring the leader to the arm's pose, or, if they are in one pose, "
                f"correct zero and sign of [sensor.{self.leader}] (`inphase calibrate`)"
            )
        self._due_ns = self._begun_ns = frame.due_ns
        self._episode = frame.episode
        return offset.copy()

    def _make_up(self, due_ns: int) -> None:
        """Take from the distance what is made up since the last frame, slower at first and near its
        end."""
        assert self._offset is not None
        seconds = (due_ns - self._due_ns) / 1e9
        most = self.catch_up * seconds * min(1.0, (due_ns - self._begun_ns) / 1e9 / _SETTLE_S)
        self._due_ns = due_ns
        self._offset -= np.clip(self._offset * min(1.0, seconds / _SETTLE_S), -most, most)


class Steer:
    """Moves the joints of an actuator in position mode at the rates of a sensor.

    `rates` names a sensor's field for each joint, with the number in it: `mouse.translation.0`; an
    empty text is a joint that stands. Each is a number from -1 to 1. `speed` (rad/s or m/s, one for
    all joints or one each) is what 1 means; a sign turns it round. Rates up to `dead` are 0.

    The first command is where the arm is. Each one goes on from the command that was applied, so
    none runs ahead of the limits. A sensor that is neither FRESH nor HELD says nothing: there is
    no command, and the actuator's `on_miss` brings the arm to rest. Where all rates were 0 before,
    the arm holds instead: a space mouse at rest is silent.
    """

    def __init__(
        self,
        rates: list[str],
        arm: str = "arm",
        speed: float | list[float] = 0.3,
        dead: float = 0.05,
    ) -> None:
        self.rates = [_place(name) for name in rates]
        self.arm, self.dead = arm, dead
        self.speed = np.broadcast_to(np.asarray(speed, np.float64), (len(rates),))
        if not np.isfinite(self.speed).all():
            raise ValueError(f"speed is finite, got {self.speed.tolist()}; give rad/s or m/s")
        if not 0 <= dead < 1:
            raise ValueError(f"dead is from 0 to below 1, got {dead}; give a value within")
        self.reset()

    def reset(self) -> None:
        """Begin anew with the next frame."""
        self._rested = True
        self._due_ns = 0

    def __call__(self, frame: Frame) -> dict[str, NDArray[np.float64]] | None:
        """Positions of all joints; None while the rates are not known, or motion is latched.

        Raises NotThere before the arm holds anywhere. Raises ValueError where the arm has another
        number of joints.
        """
        here = frame.command[self.arm].applied
        if not np.isfinite(here).all():
            raise NotThere(f"{self.arm} holds nowhere yet")
        if here.size != len(self.rates):
            raise ValueError(
                f"rates has {len(self.rates)} names and actuator {self.arm} {here.size} joints; "
                'give one for each, "" for a joint that stands'
            )
        seconds = min((frame.due_ns - self._due_ns) / 1e9, frame.layout.period_ns / 1e9)
        self._due_ns = frame.due_ns
        rates = None if frame.reason != "none" else self._known(frame)
        if rates is None:
            return {self.arm: here.copy()} if self._rested and frame.reason == "none" else None
        self._rested = not rates.any()
        return {self.arm: here + seconds * self.speed * rates}

    def _known(self, frame: Frame) -> NDArray[np.float64] | None:
        """The rates of all joints; None: one is not known."""
        found = np.zeros(len(self.rates))
        for joint, place in enumerate(self.rates):
            if place is None:
                continue
            name, field, index = place
            sample = frame[name]
            if sample.status not in _GOOD:
                return None
            rate = float(np.ravel(sample.value[field])[index])
            if not sample.intact or not np.isfinite(rate):
                return None
            found[joint] = 0.0 if abs(rate) <= self.dead else min(1.0, max(-1.0, rate))
        return found


def _place(name: str) -> tuple[str, str, int] | None:
    """Sensor, field and number of a rate. Raises ValueError."""
    if not name:
        return None
    parts = name.split(".")
    if len(parts) not in (2, 3) or not all(parts):
        raise ValueError(f"rates has {name!r}; give SENSOR.FIELD or SENSOR.FIELD.NUMBER")
    if len(parts) == 3 and not parts[2].isdigit():
        raise ValueError(f"rates has {name!r}; its number is from 0 on")
    return parts[0], parts[1], int(parts[2]) if len(parts) == 3 else 0
