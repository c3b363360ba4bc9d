"""The page of a robot that a service keeps up, and its service: all with real processes."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase.access.audit import verdict
from inphase.client.kinds import PIECE_BYTES
from inphase.errors import LeaseRefused, ServiceError
from inphase.service.published.reports import Reports
from inphase.web.service_data import ServiceData
from peers import until
from runtimes import Robot
from served_pages import ServedPage
from serving import Served
from test_jobs import BOUND, write_model
from test_service import LEASE_S, swing

pytestmark = pytest.mark.real
PAGE = ("[actuator.arm]", '[page]\naddress = "127.0.0.1:0"\n[actuator.arm]')


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with Robot() as robot:
        robot.write(PAGE)
        with Served(robot) as made:
            yield made


@pytest.fixture(scope="module")
def page(served: Served) -> ServedPage:
    """Its page."""
    until(lambda: "page: http://" in served.said)
    return ServedPage.at(served.said)


def shown(page: ServedPage) -> dict[str, Any]:
    """The panels of its service."""
    status, _, body = page.ask("/api/service")
    assert status == 200
    found = json.loads(body)
    assert isinstance(found, dict)
    return found


def test_the_page_shows_who_holds_the_robot_and_what_came_of_it(
    served: Served, page: ServedPage, tmp_path: Path
) -> None:
    with served.connect() as robot:
        until(lambda: shown(page)["lease"] == {"holder": "nobody"})
        with robot.request(LEASE_S).wait(20) as lease:
            start_s = time.time() + 3600
            asked = {"robot": robot.name, "start_s": start_s, "end_s": start_s + 60}
            robot._connection.ask("reserve", **asked)
            until(lambda: shown(page)["lease"].get("holder") == "@local")
            panels = shown(page)
            assert panels["lease"]["lease"] == lease.number
            assert [one["user"] for one in panels["calendar"]] == ["@local"]
            job = robot.submit(
                write_model(tmp_path / "stand.onnx", 0.0),
                policy=BOUND,
                seconds=30,
                success="person",
            )
            until(lambda: f"@local#job{job}" in [one["user"] for one in shown(page)["queue"]])
            (waiting,) = shown(page)["queue"]
            assert waiting["place"] == 1
            assert 0 < float(waiting["estimate"].removesuffix(" s")) <= LEASE_S
            number = lease.number

        def marked() -> bool:
            try:
                robot.mark(job, "success")
            except LeaseRefused:
                return False
            return True

        until(marked)
        until(lambda: shown(page)["jobs"][0]["state"] == "done")
        panels = shown(page)
        assert (panels["jobs"][0]["job"], panels["jobs"][0]["score"]) == (job, "1 of 1")
        recordings = {one["lease"]: one for one in panels["recordings"]}
        assert set(recordings) >= {number, number + 1}
        assert recordings[number]["ended"] == "released"


def test_a_report_is_made_when_it_is_asked_for_and_opens_in_a_sandbox(
    served: Served, page: ServedPage
) -> None:
    with served.connect() as robot, robot.request(LEASE_S).wait(20) as lease:
        number = lease.number
        status, _, body = page.ask(f"/reports/{number}")
        assert status == 404 and b"goes on" in body
        with lease.drive() as drive:
            swing(drive, 20)
    until(lambda: f"{served.recording(number)}: " in served.said)
    folder = served.folder / "state" / "reports"
    for old in range(70):
        folder.joinpath(f"old-{old}.html").touch()
        os.utime(folder / f"old-{old}.html", (old, old))
    path = f"/reports/{number}"
    until(lambda: path in [one.get("href") for one in shown(page)["recordings"]])
    until(lambda: page.ask(path)[0] != 202)
    status, headers, body = page.ask(path)
    assert status == 200, body
    made = folder / f"{served.robot.name}-{number}.html"
    newest = {made.name, *(f"old-{old}.html" for old in range(7, 70))}
    until(lambda: {page.name for page in folder.glob("*.html")} == newest)  # 64 are kept
    assert body == made.read_bytes() and b"inphase report" in body[:1024]
    assert b"several files" not in body and b"The recording began with frame" in body
    assert len(body) > 2 * PIECE_BYTES
    policy = headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; ")
    assert "connect-src" not in policy and "allow-same-origin" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    made_ns = made.stat().st_mtime_ns
    assert page.ask(path)[0] == 200
    assert made.stat().st_mtime_ns == made_ns  # it is made once


@pytest.mark.parametrize("lease", ["0", "99999", "1" * 30, "-1", "1.html", "..%2f..%2fhistory"])
def test_nothing_but_reports_is_there(page: ServedPage, lease: str) -> None:
    assert page.ask(f"/reports/{lease}")[0] == 404


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_no_other_site_has_a_report_made(page: ServedPage, site: str) -> None:
    assert page.ask("/reports/1", Sec_Fetch_Site=site)[0] == 403


def test_a_report_that_cannot_be_made_is_told_once_and_few_wait(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"arm-{number}.mcap").write_bytes(b"no recording")
    reports = Reports(tmp_path, tmp_path / "reports")
    for number in range(8):
        assert reports.ask(f"arm-{number}", 0) == {"state": "making"}
    with pytest.raises(ServiceError, match="reports wait already"):
        reports.ask("arm-9", 0)
    with pytest.raises(ServiceError, match="no recording arm-10"):
        reports.ask("arm-10", 0)

    def has_failed() -> bool:
        reports.advance()
        return "arm-0" in reports._failed

    until(has_failed)
    found = reports.ask("arm-0", 0)
    assert found["state"] == "failed" and "arm-0.mcap" in found["why"]
    reports.close()


def test_a_robot_of_another_service_has_no_panels(served: Served) -> None:
    data = ServiceData(served.address, "another")
    assert data.panels() is None and data.facts() is None
    data.close()


def test_a_service_that_does_not_answer_is_told_and_the_stop_goes_on(
    served: Served, page: ServedPage
) -> None:
    served.process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: "no service answers" in shown(page)["lease"].get("service", ""))
        assert page.ask("/api/stop", "POST", Origin=page.url)[0] == 200
    finally:
        served.process.send_signal(signal.SIGCONT)
    until(lambda: "holder" in shown(page)["lease"])


def test_a_stop_at_the_page_is_in_the_audit_log(served: Served, page: ServedPage) -> None:
    """Also one while the service did not answer, which is the test above."""
    before = _stops(served)
    assert page.ask("/api/stop", "POST", Origin=page.url)[0] == 200
    until(lambda: len(_stops(served)) == len(before) + 1)
    entry = _stops(served)[-1]
    assert (entry["robot"], entry["user"], entry["by"]) == (served.robot.name, "@local", "page")
    assert before, "the stop during the service's pause is there too"


def _stops(served: Served) -> list[dict[str, Any]]:
    last = verdict.of(served.folder / "state", last=1000).last
    return [entry for entry in last if entry["what"] == "stopped"]
