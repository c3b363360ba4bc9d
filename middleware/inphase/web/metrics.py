"""The counts of a robot's store in the format of Prometheus, and what its service tells of it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inphase.frames.record_layout import HISTOGRAMS, REASONS, STATES, name_of
from inphase.frames.store_follower import StoreFollower

Facts = Callable[[], Mapping[str, Any] | None]
"""gives what the service tells of the robot; None: there is none, or it does not answer"""

_COUNTERS = {
    "cycles": "Cycles that were run.",
    "skipped": "Grid points that were left out.",
    "overruns": "Cycles that woke too late, or ended too late.",
    "page_faults": "Page faults of the cycle thread.",
    "lost_devices": "Times that a device went away.",
    "estops": "Emergency stops.",
}
_TIMES = {
    "wake_late_ns": "How late the cycle thread woke.",
    "trigger_late_ns": "How late triggers were fired.",
    "act_late_ns": "How late commands were written.",
    "skew_ns": "The largest difference of acquisition times in a frame.",
    "latch_to_command_ns": "From the latch of a frame to its command.",
}
_QUANTILES = {"p50": "0.5", "p90": "0.9", "p99": "0.99", "p999": "0.999", "max": "1"}
_NOW = ("unanswered",)
"""counts that go down again"""


class Metrics(Collector):
    """Collects the figures of one run. Thread: one at a time.

    Raises StoreError where there is no such store.
    """

    def __init__(self, store_path: str, facts: Facts) -> None:
        self._source = StoreFollower(store_path)
        self._facts = facts
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All figures as they are now, as a scraper wants them."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """No figure is asked for when it is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All figures."""
        reader, robot = self._source.reader, self._source.layout.robot
        status = reader.status()
        for name, text in _COUNTERS.items():
            yield _counter(name, text, {"robot": robot}, [({}, status[name])])
        yield from self._core_counts(robot)
        states = [({"state": name}, index == status["state"]) for index, name in enumerate(STATES)]
        yield _gauge("state", "1 for the present state.", {"robot": robot}, states)
        latched = {"reason": name_of(status["latched"], REASONS)}
        yield _gauge(
            "latched", "1: motion is latched.", {"robot": robot}, [(latched, status["latched"] > 0)]
        )
        text = "1: an emergency-stop input is pressed, or unknown."
        yield _gauge("estop", text, {"robot": robot}, [({}, status["estop"] > 0)])
        granted = reader.realtime()["granted"]
        text = "1: its real-time rights are granted."
        yield _gauge("realtime", text, {"robot": robot}, [({}, granted)])
        yield from self._distributions(robot)
        yield from self._of_service(robot)

    def _core_counts(self, robot: str) -> Iterator[Metric]:
        reader, layout = self._source.reader, self._source.layout
        counts = reader.counts()
        rows = [({"count": name}, n) for name, n in counts.items() if name not in _NOW]
        yield _counter("counts", "Counts of the core, by name.", {"robot": robot}, rows)
        yield _gauge(
            "unanswered",
            "Cycles in a row without an accepted command.",
            {"robot": robot},
            [({}, counts["unanswered"])],
        )
        of_sensors = zip(layout.sensors, reader.statuses(), strict=True)
        samples = [
            ({"sensor": sensor, "status": status}, n)
            for sensor, statuses in of_sensors
            for status, n in statuses.items()
        ]
        yield _counter("samples", "Frames by a sample's status.", {"robot": robot}, samples)
        reasons = [({"reason": name}, n) for name, n in reader.reasons().items()]
        text = "Commands that were missed or refused, by reason."
        yield _counter("reasons", text, {"robot": robot}, reasons)

    def _distributions(self, robot: str) -> Iterator[Metric]:
        reader = self._source.reader
        for index, name in enumerate(HISTOGRAMS):
            metric = Metric(f"inphase_{name.removesuffix('_ns')}_seconds", _TIMES[name], "summary")
            _add_quantiles(metric, {"robot": robot}, reader.quantiles(index))
            yield metric
        metric = Metric(
            "inphase_trigger_to_sample_seconds", "From trigger to receipt of a sample.", "summary"
        )
        for index, sensor in enumerate(self._source.layout.sensors):
            found = reader.quantiles(len(HISTOGRAMS) + index)
            _add_quantiles(metric, {"robot": robot, "sensor": sensor}, found)
        yield metric

    def _of_service(self, robot: str) -> Iterator[Metric]:
        facts = self._facts()
        yield _gauge(
            "service", "1: a service keeps it up.", {"robot": robot}, [({}, facts is not None)]
        )
        if facts is None:
            return
        text = "1: somebody has its lease."
        yield _gauge("lease_held", text, {"robot": robot}, [({}, facts["lease"] > 0)])
        text = "Users that wait for its lease."
        yield _gauge("lease_waiting", text, {"robot": robot}, [({}, len(facts["queue"]))])
        commands = [({"result": name}, n) for name, n in facts["commands"].items()]
        text = "Commands from afar: taken, or refused by reason."
        yield _counter("remote_commands", text, {"robot": robot}, commands)

    def close(self) -> None:
        """Let go of the store."""
        self._source.close()


_Rows = Sequence[tuple[Mapping[str, str], float]]


def _counter(name: str, text: str, alike: Mapping[str, str], rows: _Rows) -> Metric:
    return _filled(CounterMetricFamily, name, text, alike, rows)


def _gauge(name: str, text: str, alike: Mapping[str, str], rows: _Rows) -> Metric:
    return _filled(GaugeMetricFamily, name, text, alike, rows)


def _filled(family: Any, name: str, text: str, alike: Mapping[str, str], rows: _Rows) -> Metric:
    """A metric with a line for each row; alike: the labels that all have."""
    names = [*alike, *(rows[0][0] if rows else {})]
    metric: Metric = family(f"inphase_{name}", text, labels=names)
    for labels, value in rows:
        metric.add_metric([*alike.values(), *labels.values()], value)  # type: ignore[attr-defined]
    return metric


def _add_quantiles(metric: Metric, labels: dict[str, str], found: Mapping[str, int]) -> None:
    """Nanoseconds of a distribution, in seconds. Its sum is not kept by the core."""
    for name, quantile in _QUANTILES.items():
        metric.add_sample(metric.name, labels | {"quantile": quantile}, found[name] / 1e9)
    metric.add_sample(f"{metric.name}_count", labels, found["count"])
