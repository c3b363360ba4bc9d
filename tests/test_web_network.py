"""The page on the network: its certificate, sign-in by keys, and what slow or bad peers cost."""

import contextlib
import json
import re
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from inphase.access.audit import verdict
from inphase.access.browsers import LINK_S, Browsers
from inphase.access.keys import KeyFolder
from inphase.errors import AccessError, RuntimeFault, ScheduleError
from inphase.frames import store
from inphase.schedule import load
from inphase.web.door import bounded_server
from inphase.web.viewers import SIGNED_OUT
from peers import BOUND_S, until
from robots import demo_schedule
from runtimes import Robot
from served_pages import NetworkPage, ServedPage

pytestmark = pytest.mark.real

OK, SEE_OTHER, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 303, 401, 403, 404


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkPage]:
    with NetworkPage(tmp_path_factory.mktemp("page"), {"ann": "watch", "bob": "drive"}) as made:
        yield made


def noted(page: NetworkPage) -> list[tuple[str, str]]:
    """What the page's log says, and of whom."""
    last = verdict.of(page.log, last=10_000).last
    return [(entry["what"], entry["user"]) for entry in last]


# ---- who comes in --------------------------------------------------------------------------------


def test_who_is_not_signed_in_gets_the_sign_in_page_alone(page: NetworkPage) -> None:
    status, headers, _ = page.ask("/")
    assert (status, headers["location"]) == (SEE_OTHER, "/sign-in")
    assert page.ask("/sign-in")[0] == OK and b"Sign in" in page.ask("/sign-in")[2]
    for path in ("/index.html", "/main.js", "/api/model", "/api/service", "/metrics", "/reports/1"):
        assert page.ask(path)[0] == UNAUTHORIZED, path
    assert page.ask("/api/stop", "POST", Origin=page.url)[0] == UNAUTHORIZED
    with pytest.raises(InvalidStatus, match="403"):
        page.watch()
    for cookie in ("", f"{page.cookie_name}=", f"{page.cookie_name}=x", "\xff=\xfe; =;;"):
        assert page.ask("/main.js", Cookie=cookie)[0] == UNAUTHORIZED


def test_a_link_signs_one_browser_in_once(page: NetworkPage) -> None:
    word = page.browsers.link("ann")
    status, headers, body = page.ask("/api/sign-in", "POST", Origin=page.url, X_Inphase_Link=word)
    assert status == OK and json.loads(body) == {"user": "ann"}
    name, _, value = headers["set-cookie"].partition("=")
    assert name == page.cookie_name and name.startswith("__Host-")
    rights = {one.strip() for one in value.split(";")[1:]}
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= rights
    assert not [one for one in rights if one.startswith("Domain")]
    cookie = f"{name}={value.partition(';')[0]}"
    assert page.ask("/", Cookie=cookie)[0] == OK
    assert json.loads(page.ask("/api/who", Cookie=cookie)[2]) == {"user": "ann"}
    again = page.ask("/api/sign-in", "POST", Origin=page.url, X_Inphase_Link=word)
    assert again[0] == FORBIDDEN and "set-cookie" not in again[1]
    until(lambda: ("signed in", "ann") in noted(page) and ("sign-in refused", "") in noted(page))


def test_no_other_site_signs_a_browser_in_or_uses_its_session(page: NetworkPage) -> None:
    word, cookie = page.browsers.link("ann"), page.sign_in("ann")
    for origin in ("https://evil.example", "null", page.url.replace("https", "http")):
        assert page.ask("/api/sign-in", "POST", Origin=origin, X_Inphase_Link=word)[0] == FORBIDDEN
        assert page.ask("/api/stop", "POST", Origin=origin, Cookie=cookie)[0] == FORBIDDEN
        with pytest.raises(InvalidStatus, match="403"):
            page.watch(origin=origin, additional_headers={"Cookie": cookie})
    assert page.browsers.redeem(word) is not None  # nothing has used it up


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.7", "[::2]"])
def test_a_name_that_is_not_the_pages_is_refused_to_all(page: NetworkPage, host: str) -> None:
    cookie = page.sign_in("ann")
    assert page.ask("/", Host=host, Cookie=cookie)[0] == FORBIDDEN
    assert page.ask("/", Host=f"{host}:8470", Origin=f"https://{host}:8470")[0] == FORBIDDEN


def test_a_stop_is_in_the_log_with_its_user_and_address(page: NetworkPage) -> None:
    for user in ("ann", "bob"):  # who may watch may stop
        asked = page.ask("/api/stop", "POST", Origin=page.url, Cookie=page.sign_in(user))
        assert asked[0] == OK
        until(lambda user=user: ("stopped", user) in noted(page))  # type: ignore[misc]
    last = verdict.of(page.log, last=1).last[0]
    assert (last["robot"], last["address"], last["by"]) == ("demo", "127.0.0.1", "page")


def test_signing_out_ends_a_session_and_no_other(page: NetworkPage) -> None:
    first, second = page.sign_in("ann"), page.sign_in("ann")
    status, headers, _ = page.ask("/api/sign-out", "POST", Origin=page.url, Cookie=first)
    assert status == OK and "Max-Age=0" in headers["set-cookie"]
    assert page.ask("/api/who", Cookie=first)[0] == UNAUTHORIZED
    assert page.ask("/api/who", Cookie=second)[0] == OK
    assert page.browsers.sign_out("ann") >= 1
    assert page.ask("/api/who", Cookie=second)[0] == UNAUTHORIZED


def test_a_revoked_key_ends_its_sessions_at_once_and_no_others(tmp_path: Path) -> None:
    with NetworkPage(tmp_path, {"ann": "watch", "bob": "watch"}) as page:
        ann, bob = page.sign_in("ann"), page.sign_in("bob")
        link = page.browsers.link("ann")
        with contextlib.ExitStack() as viewers:
            open_one = viewers.enter_context(page.watch(additional_headers={"Cookie": ann}))
            other = viewers.enter_context(page.watch(additional_headers={"Cookie": bob}))
            page.message(open_one, "frame")
            page.message(other, "frame")
            page.keys.revoke("ann")  # the robot stands: no frame comes that could tell it
            with pytest.raises(ConnectionClosed):
                while True:
                    open_one.recv(BOUND_S)
            assert open_one.close_code in (SIGNED_OUT, 1006)  # the latter on a busy machine
            page.message(other, "frame")
        assert page.ask("/main.js", Cookie=ann)[0] == UNAUTHORIZED
        assert page.ask("/api/stop", "POST", Origin=page.url, Cookie=ann)[0] == UNAUTHORIZED
        assert page.ask("/api/who", Cookie=bob)[0] == OK
        page.keys.create("ann", "watch", tmp_path / "ann2.key")
        assert page.ask("/main.js", Cookie=ann)[0] == UNAUTHORIZED  # another key, another person
        asked = page.ask("/api/sign-in", "POST", Origin=page.url, X_Inphase_Link=link)
        assert asked[0] == FORBIDDEN


@pytest.mark.long
def test_an_answer_on_its_way_breaks_where_the_key_is_revoked(tmp_path: Path) -> None:
    """A frame that was made before the revocation is not sent after it."""
    with NetworkPage(tmp_path, {"ann": "watch", "bob": "watch"}) as page:
        with page.watch(additional_headers={"Cookie": page.sign_in("ann")}) as viewer:
            page.message(viewer, "frame")
            reader = store.Reader(page.robot.core.segment.path)
            before = reader.status()["cycles"]
            reader.close()
            page.keys.revoke("ann")
            page.robot.run(500)
            came = []
            with pytest.raises(ConnectionClosed):
                while True:
                    came.append(viewer.recv(BOUND_S))
        cycles = [json.loads(one)["cycle"] for one in came if '"kind":"frame"' in str(one)]
        assert not [cycle for cycle in cycles if cycle > before]


def test_a_program_reads_figures_by_a_word_and_nothing_else(page: NetworkPage) -> None:
    word = page.browsers.session("bob", 3600)
    status, _, body = page.ask("/metrics", Authorization=f"Bearer {word}")
    assert status == OK and b'inphase_cycles_total{robot="demo"}' in body
    assert page.ask("/main.js", Authorization=f"Bearer {word}")[0] == UNAUTHORIZED
    asked = page.ask("/api/stop", "POST", Origin=page.url, Authorization=f"Bearer {word}")
    assert asked[0] == UNAUTHORIZED


# ---- links and sessions --------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    for name in ("ann", "bob"):
        made.create(name, "watch", tmp_path / f"{name}.key")
    return made


def test_links_and_sessions_end_with_their_time(keys: KeyFolder) -> None:
    now = [1_000_000.0]
    browsers = Browsers(keys.folder, clock=lambda: now[0])
    late, word = browsers.link("ann"), browsers.session("ann", 100)
    assert browsers.find(word) is not None
    now[0] += 99.9
    assert browsers.find(word) is not None
    now[0] += 0.1
    assert browsers.find(word) is None
    now[0] += LINK_S
    assert browsers.redeem(late) is None


def test_a_user_has_few_links_and_sessions_and_takes_none_from_others(keys: KeyFolder) -> None:
    browsers = Browsers(keys.folder)
    bobs, link = browsers.session("bob", 100), browsers.link("bob")
    words = [browsers.session("ann", 100) for _ in range(40)]
    links = [browsers.link("ann") for _ in range(40)]
    assert [browsers.find(word) is not None for word in words] == [False] * 24 + [True] * 16
    assert browsers.find(bobs) is not None
    assert [browsers.redeem(one) is not None for one in links].count(True) == 8
    assert browsers.redeem(link) is not None
    content = (keys.folder / "browsers.json").read_text()
    assert len(content) < 10_000 and not [one for one in (*words, *links) if one in content]


def test_what_others_may_read_or_is_damaged_signs_nobody_in(keys: KeyFolder) -> None:
    browsers = Browsers(keys.folder)
    word = browsers.session("ann", 100)
    path = keys.folder / "browsers.json"
    for text, mode in (("{", 0o600), (path.read_text(), 0o644)):
        path.write_text(text)
        path.chmod(mode)
        assert browsers.find(word) is None
        with pytest.raises(AccessError, match=r"remove it|chmod 600"):
            browsers.link("ann")
    path.chmod(0o600)
    assert browsers.find(word) is not None


def test_the_commands_print_a_link_that_works_and_end_sessions(page: NetworkPage) -> None:
    def type_in(*words: str) -> str:
        line = [sys.executable, "-m", "inphase", "keys", *words]
        line += ["--folder", str(page.keys.folder)]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    said = type_in("link", "bob")
    found = re.search(r"^(https://\S+)/sign-in#(\S+)$", said, re.MULTILINE)
    assert found and found[1] == page.url
    assert page.fingerprint in said and "▀" in said
    asked = page.ask("/api/sign-in", "POST", Origin=page.url, X_Inphase_Link=found[2])
    assert asked[0] == OK
    cookie = asked[1]["set-cookie"].partition(";")[0]
    assert page.ask("/api/who", Cookie=cookie)[0] == OK
    assert "signed out: bob, " in type_in("sign-out", "bob")
    assert page.ask("/api/who", Cookie=cookie)[0] == UNAUTHORIZED
    assert "https://robot.example:" in type_in("link", "bob", "--host", "robot.example")
    word = type_in("scraper", "bob").strip()
    assert page.ask("/metrics", Authorization=f"Bearer {word}")[0] == OK


# ---- the certificate -----------------------------------------------------------------------------


def test_the_certificate_that_is_made_is_this_machines_and_stays(tmp_path: Path) -> None:
    with NetworkPage(tmp_path, {"ann": "watch"}) as page:
        own = page.keys.folder / "page.pem"
        assert own.stat().st_mode & 0o777 == 0o600
        context = ssl.create_default_context(cafile=str(own))
        line = socket.create_connection(page.place, BOUND_S)
        with context.wrap_socket(line, server_hostname="127.0.0.1") as tls:  # it is for that
            assert tls.version() == "TLSv1.3"
        assert f"SHA-256 {page.fingerprint}" in page.where
        before = page.fingerprint
    with NetworkPage(tmp_path, {}) as page:
        assert page.fingerprint == before


def test_an_own_certificate_is_used_and_its_successor_without_a_new_start(tmp_path: Path) -> None:
    with NetworkPage(tmp_path, {"ann": "watch"}) as other:
        first = (other.keys.folder / "page.pem").read_bytes()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(first)
    key.write_bytes(first)
    key.chmod(0o600)
    with NetworkPage(tmp_path, {}, files=(chain, key)) as page:
        served = ssl.get_server_certificate(page.place)
        assert served in first.decode()
        chain.write_text("broken")
        assert ssl.get_server_certificate(page.place) == served  # the last one that fits
        (tmp_path / "other").mkdir()
        with NetworkPage(tmp_path / "other", {"ann": "watch"}) as another:
            second = (another.keys.folder / "page.pem").read_bytes()
        key.write_bytes(second)
        chain.write_bytes(second)
        assert ssl.get_server_certificate(page.place) in second.decode()


def test_files_that_are_no_certificate_are_named(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    with pytest.raises(RuntimeFault) as refused:
        NetworkPage(tmp_path, {"ann": "watch"}, files=(chain, key)).__enter__()
    assert refused.value.exit_code == AccessError.exit_code


def test_a_page_on_the_network_without_keys_is_an_error_at_the_start(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, page=True)
    text = path.read_text()
    for keys, said in (
        ("", r"page\.address.*nobody has to sign in; add keys = "),
        ('certificate = "a.pem"\n', r"page\.certificate.*add key"),
        ('certificate = "a.pem"\nkey = "b.pem"\n', r"page\.certificate.*add keys"),
    ):
        path.write_text(text.replace('"127.0.0.1:8470"', f'"0.0.0.0:8470"\n{keys}'))
        with pytest.raises(ScheduleError, match=said):
            load(path)
    with Robot() as robot:
        page = '[page]\naddress = "0.0.0.0:0"\nkeys = "keys"\n'
        robot.write(("[actuator.arm]", f"{page}[actuator.arm]"))
        with robot.run() as run:
            assert run.process.wait(BOUND_S) == AccessError.exit_code
            assert "nobody has a key to sign in; make one: inphase keys create NAME" in run.stderr


# ---- slow and bad peers --------------------------------------------------------------------------


def sockets(page: ServedPage) -> int:
    """How many connections its process has."""
    return len(psutil.Process(page.process.pid).net_connections("tcp"))


def rss(page: ServedPage) -> int:
    """Bytes of memory that its process has."""
    return int(psutil.Process(page.process.pid).memory_info().rss)


def connected(page: ServedPage, host: str = "127.0.0.3") -> socket.socket:
    """A connection from another address than the tests'."""
    return socket.create_connection(page.place, BOUND_S, source_address=(host, 0))


HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(32)
"""the beginning of a TLS hello"""


def test_handshakes_that_are_never_finished_keep_nobody_out(page: NetworkPage) -> None:
    cookie = page.sign_in("ann")
    with page.watch(additional_headers={"Cookie": cookie}) as viewer:
        page.message(viewer, "frame")
        before = rss(page)
        silent = []
        for number in range(4 * bounded_server.CONNECTIONS):
            silent.append(connected(page))
            if number % 2:
                with contextlib.suppress(OSError):
                    silent[-1].sendall(HELLO)
            if number % 50 == 0:  # others go on meanwhile
                assert page.ask("/main.js", Cookie=cookie)[0] == OK
                page.message(viewer, "frame")
        assert sockets(page) <= bounded_server.CONNECTIONS + 8
        assert page.ask("/api/stop", "POST", Origin=page.url, Cookie=cookie)[0] == OK
        # 256 KiB is uvloop's buffer of a TLS connection, of which little is touched
        assert rss(page) - before < (bounded_server.CONNECTIONS + 8) * 400_000
        until(lambda: sockets(page) < 8)  # all are left after a time, and none was closed here
    for one in silent:
        one.close()


def test_a_flood_of_one_address_takes_from_itself_alone(page: NetworkPage) -> None:
    context = ssl._create_unverified_context()
    calm = context.wrap_socket(socket.create_connection(page.place, BOUND_S))
    calm.sendall(b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n")  # it is not whole yet
    flood = [connected(page) for _ in range(2 * bounded_server.CONNECTIONS)]
    calm.sendall(b"\r\n")
    assert calm.recv(15) == b"HTTP/1.1 200 OK"
    calm.close()
    for one in flood:
        one.close()


@pytest.mark.long
def test_a_request_that_does_not_come_whole_is_left(page: NetworkPage) -> None:
    context = ssl._create_unverified_context()
    slow = context.wrap_socket(socket.create_connection(page.place, BOUND_S))
    slow.settimeout(0.5)
    slow.sendall(b"GET /sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\n")

    def is_left() -> bool:
        try:
            slow.sendall(b"X-A: b\r\n")  # one line after the other, and never the last
            return slow.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    until(is_left)
    slow.close()


@pytest.mark.long
def test_an_answer_that_nobody_takes_is_left_and_a_finished_connection_is_gone(
    page: NetworkPage,
) -> None:
    cookie = page.sign_in("ann")
    page.ask("/api/model", Cookie=cookie)  # it is compiled
    before = sockets(page)
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stuck.settimeout(BOUND_S)
    stuck.connect(page.place)
    tls = ssl._create_unverified_context().wrap_socket(stuck)
    request = f"GET /vendor/three.js HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n"
    for _ in range(20):  # more than all buffers on the way take
        tls.sendall(request.encode())
    until(lambda: sockets(page) == before + 1)
    until(lambda: sockets(page) <= before)
    tls.close()


def test_plain_http_and_garbage_get_nothing(page: NetworkPage) -> None:
    for said in (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 4000):
        with connected(page) as line:
            line.sendall(said)
            with contextlib.suppress(ConnectionError):
                assert b"HTTP/1.1" not in line.recv(4096)
    old = ssl._create_unverified_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), connected(page) as line:
        old.wrap_socket(line)
    assert page.ask("/sign-in")[0] == OK
