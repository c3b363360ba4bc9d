"""The page's figures for Prometheus, read by its own parser and held against the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as families

from inphase.errors import StoreError
from inphase.frames.record_layout import STATES
from inphase.frames.store import Reader
from inphase.web.metrics import Metrics
from peers import until
from served_pages import ServedPage
from test_service import LEASE_S, swing
from test_web_service import PAGE, Robot, Served

pytestmark = pytest.mark.real
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scraped(page: ServedPage) -> Samples:
    """All samples, by name and labels, but for the robot's, which all have."""
    status, headers, body = page.ask("/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    found: Samples = {}
    for family in families(body.decode()):
        assert family.documentation.endswith(".") and family.type != "unknown"
        for sample in family.samples:
            labels = dict(sample.labels)
            labels.pop("robot")
            key = (sample.name, frozenset(labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Of a sample."""
    return f"inphase_{name}", frozenset(labels.items())


@pytest.fixture
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with ServedPage(tmp_path_factory.mktemp("page")) as made:
        yield made


def test_the_figures_are_those_of_the_store(page: ServedPage) -> None:
    page.robot.run(200)
    found = scraped(page)
    reader = Reader(page.robot.core.segment.path)
    status, counts = reader.status(), reader.counts()
    assert found[key("cycles_total")] == status["cycles"] == 200
    for name in ("skipped", "overruns", "page_faults", "lost_devices", "estops"):
        assert found[key(f"{name}_total")] == status[name]
    for name, count in counts.items():
        labels = {} if name == "unanswered" else {"count": name}
        assert found[key("unanswered" if not labels else "counts_total", **labels)] == count
    assert counts["commands"] > 100
    for sensor, statuses in zip(("joints", "wrench"), reader.statuses(), strict=True):
        for name, count in statuses.items():
            assert found[key("samples_total", sensor=sensor, status=name)] == count
    states = {name: found[key("state", state=name)] for name in STATES}
    assert sum(states.values()) == 1 and states[STATES[status["state"]]] == 1
    assert found[key("estop")] == found[key("service")] == 0
    reader.close()


def test_the_distributions_are_those_of_the_store_in_seconds(page: ServedPage) -> None:
    page.robot.run(200)
    found = scraped(page)
    reader = Reader(page.robot.core.segment.path)
    kept = ("wake_late", "trigger_late", "act_late", "skew", "latch_to_command")
    for index, name in enumerate(kept):
        quantiles = reader.quantiles(index)
        assert found[key(f"{name}_seconds_count")] == quantiles["count"]
        for quantile, of in (("0.5", "p50"), ("0.99", "p99"), ("1", "max")):
            value = found[key(f"{name}_seconds", quantile=quantile)]
            assert value == pytest.approx(quantiles[of] / 1e9)
    for index, sensor in enumerate(("joints", "wrench")):
        quantiles = reader.quantiles(len(kept) + index)
        assert quantiles["count"] > 0
        count = found[key("trigger_to_sample_seconds_count", sensor=sensor)]
        assert count == quantiles["count"]
    reader.close()


def test_a_figure_that_is_asked_for_again_has_grown(page: ServedPage) -> None:
    page.robot.run(10)
    first = scraped(page)
    page.robot.run(10)
    assert scraped(page)[key("cycles_total")] == first[key("cycles_total")] + 10


def test_a_scraper_names_this_host_and_only_reads(page: ServedPage) -> None:
    assert page.ask("/metrics", Host="robot.example")[0] == 403
    assert page.ask("/metrics", "POST", Origin=page.url)[0] == 405


def test_without_its_package_the_page_says_so_and_stops_all_the_same(tmp_path: Path) -> None:
    missing = "raise ModuleNotFoundError('No module', name='prometheus_client')"
    tmp_path.joinpath("prometheus_client.py").write_text(missing)
    with ServedPage(tmp_path, modules=tmp_path) as page:
        status, _, body = page.ask("/metrics")
        assert status == 501 and b"pip install 'inphase[web]'" in body
        assert page.ask("/api/stop", "POST", Origin=page.url)[0] == 200


def test_without_a_store_there_are_no_figures() -> None:
    with pytest.raises(StoreError):
        Metrics("/dev/shm/none", lambda: None)


def test_a_served_robot_tells_its_lease_and_the_commands_from_afar() -> None:
    with Robot() as robot:
        robot.write(PAGE)
        with Served(robot) as served:
            until(lambda: "page: http://" in served.said)
            page = ServedPage.at(served.said)
            assert scraped(page)[key("service")] == 1
            assert scraped(page)[key("lease_held")] == 0
            with (
                served.connect() as client,
                client.request(LEASE_S).wait(20) as lease,
                lease.drive() as drive,
            ):
                until(lambda: any(f.command.drove == "client" for f in swing(drive, 20)))
                until(lambda: client.facts["commands"].get("taken", 0) > 0)
                taken = client.facts["commands"]["taken"]
                found = scraped(page)
                assert found[key("lease_held")] == 1
                assert found[key("remote_commands_total", result="taken")] >= taken
            until(lambda: scraped(page)[key("lease_held")] == 0)
            commands = client_counts(served)
            found = scraped(page)
            for name, count in commands.items():
                assert found[key("remote_commands_total", result=name)] == count


def client_counts(served: Served) -> dict[str, int]:
    """The commands from afar by result, as the service tells them once nobody drives."""
    with served.connect() as client:
        seen: list[dict[str, int]] = []

        def is_steady() -> bool:
            seen.append(dict(client.facts["commands"]))
            return len(seen) > 20 and seen[-1] == seen[-20]

        until(is_steady)
        return seen[-1]
