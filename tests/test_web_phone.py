"""The page on a phone, over TLS from another host: sign-in, stop, and a key that is revoked."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inphase.access.audit import verdict
from namespaces import OtherHost, can_be_made
from peers import BOUND_S, until
from runtimes import Robot
from serving import Served
from test_web_browser import BROWSER, OPTIONS, PHONE, picture, reads, sync_api

pytestmark = [
    pytest.mark.real,
    pytest.mark.long,
    pytest.mark.skipif(not can_be_made(), reason="network namespaces want root and /dev/net/tun"),
]
LOOKS = PHONE | {"ignore_https_errors": True}  # as one who has compared the fingerprint


@pytest.fixture(scope="module")
def other() -> Iterator[OtherHost]:
    with OtherHost() as made:
        yield made


@pytest.fixture(scope="module")
def browser(other: OtherHost, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser on the other host."""
    path = tmp_path_factory.mktemp("browser") / "chromium"
    path.write_text(f'#!/bin/sh\nexec {" ".join(other.command(str(BROWSER)))} "$@"\n')
    path.chmod(0o755)
    with sync_api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=str(path), args=OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A robot whose schedule has no page: the service gives it one."""
    with Robot() as robot, Served(robot, "--page", "0.0.0.0:0", users={"ann": "watch"}) as made:
        until(lambda: "page: https://" in made.said)
        yield made


def link(served: Served, other: OtherHost, user: str) -> str:
    """As the owner's terminal prints it."""
    line = [sys.executable, "-m", "inphase", "keys", "link", user, "--host", other.addresses[0]]
    line += ["--folder", str(served.folder / "keys")]
    said = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^https://\S+$", said, re.MULTILINE)
    assert found
    return found[0]


def stops(served: Served) -> list[dict[str, Any]]:
    """Those of the audit log."""
    last = verdict.of(served.folder / "state", last=1000).last
    return [entry for entry in last if entry["what"] == "stopped"]


def opened(browser: Any, url: str) -> Any:
    """A page of a new browser of a phone."""
    shown = browser.new_context(**LOOKS).new_page()
    shown.set_default_timeout(BOUND_S * 1000)
    shown.goto(url)
    return shown


def test_a_phone_signs_in_stops_and_is_out_once_its_key_is_revoked(
    browser: Any, served: Served, other: OtherHost
) -> None:
    served.make_key("bob", "watch")
    url = link(served, other, "bob")
    with pytest.raises(sync_api.Error, match="ERR_CERT"):  # the browser knows it only so
        browser.new_context().new_page().goto(url)
    shown = opened(browser, url)
    shown.wait_for_selector("#enter")
    assert "#" not in shown.url  # the word stays in no history
    picture(shown, "sign-in-phone")
    shown.tap("#enter")
    shown.wait_for_selector("html[data-live]")
    shown.wait_for_selector("#user button")
    assert shown.inner_text("#user").startswith("Signed in as bob")
    assert shown.evaluate("document.cookie") == ""  # no script sees it
    width = shown.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE["viewport"]["width"]
    before = len(stops(served))
    shown.tap("#stop")
    shown.wait_for_function(
        "() => document.querySelector('#why').innerText.includes('emergency stop')"
    )
    until(lambda: len(stops(served)) == before + 1)
    told = stops(served)[-1]
    assert (told["user"], told["by"], told["address"]) == ("bob", "page", other.addresses[1])
    picture(shown, "network-phone")
    shown.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    shown.wait_for_selector("#user button")
    picture(shown, "network-phone-end")
    command = [sys.executable, "-m", "inphase", "keys", "revoke", "bob"]
    subprocess.run([*command, "--folder", str(served.folder / "keys")], check=True)
    shown.wait_for_url("**/sign-in")
    reads(shown, "#said", "You are signed out: the session has ended, or the key was revoked.")
    picture(shown, "revoked-phone")
    shown.goto(url.partition("/sign-in")[0])
    assert shown.url.endswith("/sign-in")


def test_a_link_that_was_used_says_so(browser: Any, served: Served, other: OtherHost) -> None:
    url = link(served, other, "ann")
    for place, said in ((0, ""), (1, "used already")):
        shown = opened(browser, url)
        shown.tap("#enter")
        if place:
            shown.wait_for_function(
                "said => document.querySelector('#said').innerText.includes(said)", arg=said
            )
            picture(shown, "used-link-phone")
        else:
            shown.wait_for_selector("html[data-live]")


def test_signing_out_takes_the_session_away(browser: Any, served: Served, other: OtherHost) -> None:
    shown = opened(browser, link(served, other, "ann"))
    shown.tap("#enter")
    shown.wait_for_selector("#user button")
    kept = shown.context.cookies()
    shown.click("#user button")
    shown.wait_for_url("**/sign-in")
    assert shown.context.cookies() == []
    shown.context.add_cookies(kept)  # as one who had copied it
    shown.goto(shown.url.partition("/sign-in")[0])
    assert shown.url.endswith("/sign-in")


def test_a_page_whose_host_is_gone_says_so_and_comes_back_signed_in(
    browser: Any, served: Served, other: OtherHost
) -> None:
    shown = opened(browser, link(served, other, "ann"))
    shown.tap("#enter")
    shown.wait_for_selector("html[data-live]")
    other.is_down = True
    script = "() => document.querySelector('#notice').innerText.includes('what is shown is old')"
    shown.wait_for_function(script)
    shown.tap("#stop")
    shown.wait_for_function("() => document.querySelector('#stop').innerText === 'Stop failed'")
    picture(shown, "network-down-phone")
    other.is_down = False
    shown.wait_for_function("() => document.querySelector('#notice').hidden === false")
    shown.wait_for_function("() => !document.querySelector('#notice').innerText.includes('old')")


def test_the_link_is_for_whom_the_owner_names(served: Served, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "inphase", "keys", "link", "eve"]
    line += ["--folder", str(served.folder / "keys")]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 16 and "no key has the name 'eve'; there are: ann" in done.stderr
    line[-1] = str(tmp_path / "keys")
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 16 and "inphase serve SCHEDULE --page 0.0.0.0:8470" in done.stderr
