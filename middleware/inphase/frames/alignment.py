"""Samples of all sensors at one instant: when one of them acquired its sample.

How fast a quantity can change bounds its value between two samples. For a rate r, the sample
nearest in time, d away, is at most r * d off. The straight line between two samples, d0 and d1
away, is at most r * 2 * d0 * d1 / (d0 + d1) off, which is half the gap in its middle. Both grow by
the uncertainties of the acquisition times. That line is no better in the worst case, and much
better for smooth motion.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase.frames import words
from inphase.frames.record_layout import ABSENT, ROW, STATUSES, RecordLayout, name_of

Method = Literal["nearest", "linear"]
Read = Callable[[Any, int, int], NDArray[Any]]

_FLOAT64 = np.dtype("<f8")
_BEYOND = 64
"""frames looked through beyond the instant, for the one in which a held sample was new"""

# where a field of a row is among the unpacked ones
_SEQUENCE, _ACQUIRED = ROW.index("sequence"), ROW.index("acquired_ns")
_UNCERTAINTY, _STATUS = ROW.index("uncertainty_ns"), ROW.index("status")


class Described(Protocol):
    """The facts of the sensors that are needed; layout.Layout is one."""

    @property
    def sensors(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Layouts of their samples."""

    @property
    def units(self) -> tuple[dict[str, str], ...]:
        """Units by field."""

    @property
    def rates(self) -> tuple[dict[str, NDArray[np.float64]], ...]:
        """Largest change per second by field, where it is stated."""


class _Found(NamedTuple):
    """A sample that a frame names, and where its payload is."""

    sequence: int
    acquired_ns: int | None
    uncertainty_ns: int
    status: int
    payloads: Any


class Alignment:
    """All sensors as they were when one of them acquired its sample; made by `Frame.at`."""

    def __init__(
        self,
        layout: Described,
        frames: "Iterable[tuple[bytes, Any]]",
        read: Read,
        sensor: str,
        method: Method = "nearest",
    ) -> None:
        if sensor not in layout.sensors:
            raise words.unknown("sensor", sensor, layout.sensors)
        if method not in ("nearest", "linear"):
            raise ValueError(f"method must be nearest or linear, got {method!r}")
        self.sensor = sensor
        self._layout, self._read = layout, read
        search = _Search(layout.sensors, frames, layout.sensors.index(sensor))
        self.acquired_ns = search.instant_ns
        """when that sensor acquired its sample, nanoseconds of the robot's monotonic clock"""
        self.uncertainty_ns = search.uncertainty_ns
        """of that time"""
        self.samples = {
            name: self._align(index, search.found[index], method)
            for index, name in enumerate(layout.sensors)
        }
        """sensor name to aligned sample"""

    def __getitem__(self, sensor: str) -> "Aligned":
        try:
            return self.samples[sensor]
        except KeyError:
            raise words.unknown("sensor", sensor, self.samples) from None

    def __repr__(self) -> str:
        return f"<Alignment at {self.sensor}  of {', '.join(self.samples)}>"

    def _align(self, index: int, found: list[_Found], method: Method) -> "Aligned":
        """Choose from the samples of a sensor, which come newest first."""
        placed = [f for f in found if f.acquired_ns is not None]
        if not placed:
            return Aligned(self, index, found[:1], None)
        times = [abs(_time(f) - self.acquired_ns) for f in placed]
        nearest = placed[times.index(min(times))]
        before = next((f for f in placed if _time(f) <= self.acquired_ns), None)
        after = next((f for f in reversed(placed) if _time(f) > self.acquired_ns), None)
        own = self._layout.sensors[index] == self.sensor
        if method == "nearest" or before is None or after is None or own:
            return Aligned(self, index, [nearest], None)
        return Aligned(self, index, [nearest], (before, after))


class _Search:
    """Looks through frames, newest first, until every sensor has a sample from before."""

    def __init__(
        self, sensors: tuple[str, ...], frames: "Iterable[tuple[bytes, Any]]", reference: int
    ) -> None:
        self.found: list[list[_Found]] = [[] for _ in sensors]
        open_ = set(range(len(sensors)))
        beyond = 0
        layout = RecordLayout(len(sensors), ())
        latched = layout.only(("latched_ns",))
        for number, (record, payloads) in enumerate(frames):
            rows = list(ROW.iter_unpack(record[layout.rows : layout.acts]))
            if number == 0:
                self._take_reference(sensors[reference], rows[reference])
                open_.discard(reference)
                self.found[reference] = [_found(rows[reference], payloads)]
            for index in tuple(open_):
                if self._take(index, _found(rows[index], payloads)):
                    open_.discard(index)
            beyond += latched.unpack_from(record)[0] <= self.instant_ns
            if not open_ or beyond > _BEYOND:
                return

    def _take_reference(self, name: str, row: tuple[int, ...]) -> None:
        status = name_of(row[_STATUS], STATUSES)
        if row[_SEQUENCE] < 0:
            raise LookupError(f"{name} has given no sample yet ({status}); wait for one")
        if row[_ACQUIRED] == ABSENT:
            raise LookupError(
                f"{name}: the acquisition time of its sample is not known ({status}); let its "
                f"driver state a latency model, or map the device's clock"
            )
        self.instant_ns, self.uncertainty_ns = row[_ACQUIRED], row[_UNCERTAINTY]

    def _take(self, index: int, sample: _Found) -> bool:
        """True if all that is needed of a sensor is found with this sample."""
        found = self.found[index]
        if found and found[-1].sequence == sample.sequence:
            # the same sample one frame earlier: what that frame said of it is nearer to the truth
            found[-1] = found[-1]._replace(status=sample.status)
        elif found and _is_before(found[-1], self.instant_ns):
            return True
        elif sample.sequence >= 0:
            found.append(sample)
        fresh = name_of(sample.status, STATUSES) == "FRESH"
        return sample.sequence < 0 or (fresh and _is_before(sample, self.instant_ns))


def _found(row: tuple[int, ...], payloads: Any) -> _Found:
    acquired_ns = None if row[_ACQUIRED] == ABSENT else row[_ACQUIRED]
    return _Found(row[_SEQUENCE], acquired_ns, row[_UNCERTAINTY], row[_STATUS], payloads)


def _is_before(sample: _Found, instant_ns: int) -> bool:
    return sample.acquired_ns is not None and sample.acquired_ns <= instant_ns


def _time(sample: _Found) -> int:
    assert sample.acquired_ns is not None
    return sample.acquired_ns


class Aligned:
    """One sensor at the instant of an alignment.

    method "nearest": a sample of that sensor. "linear": made from the two samples around the
    instant. float64 fields are straight in between, and those in quaternions (w, x, y, z) on the
    shortest arc. All others are as in the nearer of the two. It never extrapolates: at an instant
    that is not between two readable samples it is "nearest".
    """

    def __init__(
        self,
        alignment: Alignment,
        index: int,
        nearest: list[_Found],
        pair: tuple[_Found, _Found] | None,
    ) -> None:
        self._layout, self._read = alignment._layout, alignment._read
        self._index = index
        self._nearest = nearest[0] if nearest else None
        self._pair = pair
        self._instant_ns = alignment.acquired_ns
        self._own = self._layout.sensors[index] == alignment.sensor
        self._uncertainty_ns = alignment.uncertainty_ns

    def __repr__(self) -> str:
        return f"<Aligned {words.of_aligned(self)}>"

    @property
    def name(self) -> str:
        """The sensor's name."""
        return self._layout.sensors[self._index]

    @property
    def method(self) -> Method:
        """How `value` is made: "linear" only where there is a sample on either side."""
        return "nearest" if self._pair is None else "linear"

    @property
    def _sample(self) -> _Found:
        if self._nearest is None:
            raise LookupError(f"{self.name} has given no sample yet; wait for one")
        return self._nearest

    @property
    def is_known(self) -> bool:
        """True if there is a sample at all."""
        return self._nearest is not None

    @property
    def uncertainty_ns(self) -> int:
        """The larger of the uncertainties of the acquisition times used, for "linear" with that of
        the instant."""
        if self._pair is None:
            return self._sample.uncertainty_ns
        return max(one.uncertainty_ns for one in self._pair) + self._uncertainty_ns

    @property
    def sequences(self) -> tuple[int, ...]:
        """Numbers of the samples used, in their ring."""
        return tuple(sample.sequence for sample in self._pair or (self._sample,))

    @property
    def status(self) -> str:
        """That of the nearest sample when it was new, as far back as was looked."""
        return name_of(self._sample.status, STATUSES)

    @property
    def acquired_ns(self) -> int | None:
        """The instant itself for "linear"; else that of the sample, None: not known."""
        return self._sample.acquired_ns if self._pair is None else self._instant_ns

    @property
    def distance_ns(self) -> int | None:
        """Time from the instant to the nearest sample used, None: not known."""
        acquired_ns = self._sample.acquired_ns
        return None if acquired_ns is None else abs(acquired_ns - self._instant_ns)

    @property
    def error_ns(self) -> int | None:
        """How far in time `value` can be off, in the worst case; None: not known."""
        if self._pair is None:
            return self._nearest_error_ns()
        before, after = self._pair
        to, back = self._instant_ns - _time(before), _time(after) - self._instant_ns
        between_ns = -(-2 * to * back // (to + back))
        worse_ns = max(before.uncertainty_ns, after.uncertainty_ns)
        return between_ns + worse_ns + self._uncertainty_ns

    def _nearest_error_ns(self) -> int | None:
        if self._own:
            return 0
        distance_ns = self.distance_ns
        if distance_ns is None:
            return None
        return distance_ns + self._sample.uncertainty_ns + self._uncertainty_ns

    @property
    def error(self) -> dict[str, NDArray[np.float64]]:
        """How far each field can be off: its stated rate times its bound in time, in its unit.

        Fields without a stated rate are left out, and quaternions that lie in between.
        """
        nearest_ns, between_ns = self._nearest_error_ns(), self.error_ns
        if nearest_ns is None or between_ns is None:
            return {}
        result: dict[str, NDArray[np.float64]] = {}
        for field, rate in self._layout.rates[self._index].items():
            kind = "nearest" if self._pair is None else self._kind(field)
            if kind != "slerp":
                bound_ns = nearest_ns if kind == "nearest" else between_ns
                result[field] = rate * (bound_ns * 1e-9)
        return result

    @property
    def value(self) -> NDArray[Any]:
        """An owned structured array, fields in SI as the description says.

        Raises LookupError when there is no sample, frame.FrameLost when one was recycled.
        """
        sample = self._sample
        if self._pair is None:
            return self._read(sample.payloads, self._index, sample.sequence)
        before, after = self._pair
        first = self._read(before.payloads, self._index, before.sequence)
        second = self._read(after.payloads, self._index, after.sequence)
        part = (self._instant_ns - _time(before)) / (_time(after) - _time(before))
        result = (first if sample is before else second).copy()
        for field in result.dtype.names or ():
            kind = self._kind(field)
            if kind == "slerp":
                result[field] = slerp(first[field], second[field], part)
            elif kind == "linear":
                result[field] = (1 - part) * first[field] + part * second[field]
        result.flags.writeable = False
        return result

    def _kind(self, field: str) -> str:
        """How a field is interpolated: linear, slerp or nearest. A burst stays as it came."""
        sample = self._layout.dtypes[self._index]
        dtype, names = sample[field], sample.names or ()
        of_burst = "burst_count" in names and field.endswith("_burst")
        if dtype.base != _FLOAT64 or of_burst:
            return "nearest"
        turns = self._layout.units[self._index][field] == "quaternion" and dtype.shape[-1:] == (4,)
        return "slerp" if turns else "linear"


def slerp(first: NDArray[Any], second: NDArray[Any], part: float) -> NDArray[np.float64]:
    """Between quaternions (..., 4) on the shortest arc at constant speed; of length 1.

    q and -q are the same orientation, so the nearer of the two is gone to.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        first = first / np.linalg.norm(first, axis=-1, keepdims=True)
        second = second / np.linalg.norm(second, axis=-1, keepdims=True)
        dots = np.sum(first * second, axis=-1, keepdims=True)
        second = np.where(dots < 0, -second, second)

        # not by the cosine, which says nothing of small angles
        apart = np.linalg.norm(second - first, axis=-1, keepdims=True)
        angle = 2 * np.arctan2(apart, np.linalg.norm(second + first, axis=-1, keepdims=True))
        weights = (
            np.where(angle > 0, np.sin((1 - part) * angle) / np.sin(angle), 1 - part),
            np.where(angle > 0, np.sin(part * angle) / np.sin(angle), part),
        )
        result: NDArray[np.float64] = weights[0] * first + weights[1] * second
        result /= np.linalg.norm(result, axis=-1, keepdims=True)
        return result
