"""The page in a browser, by clicking: what a person sees of a robot, on a desk and on a phone.

`make page-test` runs these tests. INPHASE_PICTURES names a folder for pictures of the page.
"""

import contextlib
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from peers import BOUND_S, until
from runtimes import Robot, Run
from served_pages import ServedPage
from serving import Served
from test_service import LEASE_S, swing
from test_web_service import PAGE

BROWSER = next(
    filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None
)
if BROWSER is None:
    pytest.skip("no Chromium: apt install chromium-headless-shell", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.real, pytest.mark.long]

DESK = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "color_scheme": "dark"}
# the headless shell draws 3-D without a graphics card
OPTIONS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
FREE = "127.0.0.1:0"
PICTURES = os.environ.get("INPHASE_PICTURES")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=BROWSER, args=OPTIONS)
        yield started
        started.close()


class Stepping:
    """A page whose robot runs in lock step, at about its own pace, in a thread that owns it."""

    def __init__(self, folder: Path, schedule: str = "demo.toml", address: str = FREE) -> None:
        self._made: Future[ServedPage] = Future()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, schedule, address))

    def _run(self, *made_of: Any) -> None:
        with ServedPage(*made_of) as made:
            self._made.set_result(made)
            while not self._over.wait(0.02):
                made.robot.run(10)

    def __enter__(self) -> ServedPage:
        self._thread.start()
        return self._made.result(BOUND_S)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    """The page of schedules/arm.toml, which has a camera."""
    with Stepping(tmp_path_factory.mktemp("arm"), "arm.toml") as made:
        yield made


@contextlib.contextmanager
def opened(browser: Any, url: str, **looks: Any) -> Iterator[Any]:
    """The page, once it is live. Whatever its console says is a failure."""
    context = browser.new_context(**(looks or DESK))
    said: list[str] = []
    shown = context.new_page()
    shown.set_default_timeout(BOUND_S * 1000)
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(url)
    shown.wait_for_selector("html[data-live]")
    yield shown
    assert said == []
    assert all(one.startswith((url, f"ws{url.removeprefix('http')}", "blob:")) for one in asked)
    context.close()


def picture(shown: Any, name: str) -> None:
    """Keep one, if somebody wants to look at it."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        shown.screenshot(path=f"{PICTURES}/{name}.png")


def changes(shown: Any, script: str) -> None:
    """Wait until what a script gives is another than now."""
    before = shown.evaluate(script)
    shown.wait_for_function(f"before => ({script}) !== before", arg=before)


def reads(shown: Any, place: str, text: str) -> None:
    """Wait until it does."""
    script = "([place, text]) => document.querySelector(place)?.innerText === text"
    shown.wait_for_function(script, arg=[place, text])


@pytest.mark.parametrize("looks", [DESK, PHONE], ids=["desk", "phone"])
def test_the_robot_moves_in_every_panel(
    browser: Any, arm: ServedPage, looks: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    with opened(browser, f"{arm.url}/", **looks) as shown:
        assert shown.inner_text("#robot") == "arm"
        reads(shown, "#state", "running")
        reads(shown, "#meaning", "Commands are followed.")
        reads(shown, "#drive", "Driven by its policy.")
        assert shown.inner_text("#sensors").count("FRESH") >= 3
        shown.wait_for_selector("#histograms .bars")
        shown.wait_for_selector("#robot-view canvas")
        shown.wait_for_selector('#cameras img[src^="blob:"]')
        changes(shown, 'document.querySelector("#cameras img").src')
        picture(shown, f"arm-{request.node.callspec.id}")
        width = shown.evaluate("document.documentElement.scrollWidth")
        assert width <= looks["viewport"]["width"]  # nothing is beside the screen
        assert not shown.is_visible("#notice")
        for panel in ("lease", "queue", "calendar", "jobs", "recordings"):
            assert shown.query_selector(f"#panel-{panel}") is None


def test_the_arm_is_seen_moving_in_three_dimensions(browser: Any, arm: ServedPage) -> None:
    with opened(browser, f"{arm.url}/") as shown:
        shown.wait_for_selector("#robot-view canvas")
        shot = shown.locator("#robot-view").screenshot
        before = shot()
        until(lambda: shot() != before)


def test_the_stop_button_is_in_reach_wherever_one_has_scrolled(
    browser: Any, arm: ServedPage
) -> None:
    for looks in (DESK, PHONE):
        with opened(browser, f"{arm.url}/", **looks) as shown:
            for place in (0, 600, 100_000):
                shown.mouse.wheel(0, place)
                box = shown.locator("#stop").bounding_box()
                middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
                found = "([x, y]) => document.elementFromPoint(x, y).id"
                assert shown.evaluate(found, list(middle)) == "stop"
                assert box["height"] >= 44  # CSS pixels: a finger


def test_a_channel_is_chosen_by_its_button(browser: Any, arm: ServedPage) -> None:
    with opened(browser, f"{arm.url}/") as shown:
        panel = shown.locator('section[data-actuator="arm"]')
        panel.get_by_title("channel 3").click()
        pressed = panel.locator('button[aria-pressed="true"]')
        assert pressed.count() == 1 and pressed.inner_text() == "3"
        labels = panel.locator(".u-legend .u-label").all_inner_texts()
        assert labels == ["requested", "applied", "measured"]


def test_the_panels_of_a_service_are_there_when_it_has_data(browser: Any, arm: ServedPage) -> None:
    data = {
        "lease": {"holder": "ada", "until": "14:30"},
        "queue": [],
        "recordings": [
            {"file": "<b>run</b>.mcap", "verdict": "kept", "href": "/recordings/1"},
            {"file": "other.mcap", "verdict": None, "href": "https://evil.example/"},
        ],
    }
    context = browser.new_context(**PHONE)
    shown = context.new_page()
    shown.set_default_timeout(BOUND_S * 1000)
    shown.route("**/api/service", lambda route: route.fulfill(json=data))
    shown.goto(arm.url)
    shown.wait_for_selector("#panel-recordings")
    assert shown.inner_text("#panel-lease td >> nth=0") == "ada"
    assert shown.query_selector("#panel-queue") is None
    names = shown.locator("#panel-recordings td:first-child")
    assert names.all_inner_texts() == ["<b>run</b>.mcap", "other.mcap"]  # texts, and no markup
    links = shown.locator("#panel-recordings a")
    assert [link.get_attribute("href") for link in links.all()] == ["/recordings/1"]
    context.close()


def test_a_served_robots_page_shows_who_has_it_and_opens_reports(browser: Any) -> None:
    with Robot() as robot:
        robot.write(PAGE)
        with Served(robot) as served, served.connect() as client:
            until(lambda: "page: http://" in served.said)
            url = f"{ServedPage.at(served.said).url}/"
            with client.request(LEASE_S).wait(20) as lease:
                number = lease.number
                with lease.drive() as drive:
                    swing(drive, 20)
                start_s = time.time() + 3600
                client._connection.ask("reserve", start_s=start_s, end_s=start_s + 60)
                with opened(browser, url, **PHONE) as shown:
                    reads(shown, "#panel-lease td", "@local")
                    reads(shown, "#panel-calendar td", "@local")
                    picture(shown, "served-phone")
            until(lambda: f"{served.recording(number)}: " in served.said)
            with opened(browser, url) as shown:
                reads(shown, "#panel-lease td", "nobody")
                link = shown.locator(f'#panel-recordings a[href="/reports/{number}"]')
                with shown.context.expect_page() as opening:
                    link.click()
                report = opening.value
                report.set_default_timeout(BOUND_S * 1000)
                report.wait_for_selector("section.verdict")
                assert report.evaluate("self.origin") == "null"  # a page of nobody
                stop = "fetch('/api/stop', {method: 'POST'}).then(() => 'sent', () => 'kept')"
                assert report.evaluate(stop) == "kept"
                picture(report, "report")
                picture(shown, "served-desk")


def test_the_first_look_waits_for_little(browser: Any, arm: ServedPage) -> None:
    with opened(browser, f"{arm.url}/") as shown:
        loaded = shown.evaluate(
            "(() => { const [{ startTime: at }] = performance.getEntriesByName('interactive');"
            " return performance.getEntriesByType('resource').filter((one) => one.startTime < at)"
            ".map((one) => [one.name, one.encodedBodySize]); })()"
        )
        assert len(loaded) <= 9 and sum(size for _, size in loaded) < 20_000, loaded
        assert not [name for name, _ in loaded if "vendor" in name]


def test_a_page_without_a_connection_says_so_and_comes_back(browser: Any, tmp_path: Path) -> None:
    with Stepping(tmp_path) as first:
        address = first.address
        context = browser.new_context(**DESK)
        shown = context.new_page()
        shown.set_default_timeout(BOUND_S * 1000)
        shown.goto(first.url)
        shown.wait_for_selector("html[data-live]")
    shown.wait_for_function("() => document.querySelector('#notice').innerText.includes('No conn')")
    shown.click("#stop")
    shown.wait_for_function("() => document.querySelector('#stop').innerText === 'Stop failed'")
    assert "Use the hardware stop" in shown.inner_text("#notice")
    with Stepping(tmp_path, address=address) as second:
        assert second.address == address
        shown.wait_for_function(
            "() => !document.querySelector('#notice').innerText.includes('No conn')"
        )
        shown.click("#stop")
        shown.wait_for_selector("#notice", state="hidden")
        changes(shown, "document.querySelector('#figures').innerText")
    context.close()


def test_a_click_stops_a_robot_that_moves(browser: Any) -> None:
    with Robot() as robot:
        robot.write(("[actuator.arm]", '[page]\naddress = "127.0.0.1:0"\n[actuator.arm]'))
        with robot.run() as run:
            run.moving()
            with opened(browser, page_of(run), **PHONE) as shown:
                shown.tap("#stop")
                frame = run.frame(lambda frame: "ESTOP" in frame.flags)
                assert (frame.reason, frame.detail) == ("estop", 17)
                shown.wait_for_function(
                    "() => document.querySelector('#why').innerText.includes('emergency stop')"
                )
                shown.wait_for_selector("#state.bad")
                assert "then arm" in shown.inner_text("#remedy")
                reads(shown, "#drive", "Driven by nobody.")
                picture(shown, "stopped-phone")


def page_of(run: Run) -> str:
    """The address that a run says."""
    until(lambda: "page: http://" in run.stderr)
    found = re.search(r"page: (http://\S+/)", run.stderr)
    assert found
    return found[1]
