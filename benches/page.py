"""What open pages cost the demo robot, and when a browser that opens one is interactive.

The robot runs on the wall clock with everything that a run has. A block gives the wakes and
trigger-to-sample times of the store's histograms (exact to 1 %), and the CPU time of the cycle
thread per cycle, by the kernel. The viewers are WebSocket clients in another process, on the same
two cores. The browser is a headless Chromium; a page is interactive when it has shown its first
frame and its stop button takes clicks. A second page is encrypted, as on a network: its requests
are measured beside peers of another address that never finish their TLS handshakes.

    python -m benches.page ADDRESS COUNT    so many viewers, until it is killed
    python -m benches.page ADDRESS flood    such handshakes, until it is killed
"""

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from websockets.sync.client import connect

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.wake import buckets
from inphase import Runner
from inphase import schedule as schedules
from inphase.access.keys import KeyFolder
from inphase.frames.store import Segment
from inphase.frames.store_follower import StoreFollower
from inphase.host.process import Process

_SCHEDULES = Path(__file__).resolve().parent.parent / "schedules"
_VIEWERS = 5
_BLOCK_S = 3.0
_SETTLE_S = 1.0
_OPENINGS = 10
_HISTOGRAMS = {"wake": 0, "trigger to sample": 5}
_BROWSER = shutil.which("chromium-headless-shell")
_HOG = "while True: pass"
_REQUESTS = 100
_PEERS = 500  # connections of the flood that are open at once
_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(32)  # the beginning of one


def _demo(folder: Path) -> schedules.Schedule:
    """The demo's schedule in a folder of its own."""
    for name in ("demo_policy.py", "arm.xml"):
        shutil.copy(_SCHEDULES / name, folder)
    text = (_SCHEDULES / "demo.toml").read_text().replace("/tmp/inphase-demo", str(folder))
    text = text.replace("127.0.0.1:8470", "127.0.0.1:0")
    path = folder / "demo.toml"
    path.write_text(text.replace('name = "demo"', f'name = "{folder.name.lower()}"'))
    return schedules.load(path)


@contextlib.contextmanager
def _served(
    store_path: str, schedule: schedules.Schedule, keys: Path | None = None
) -> Iterator[tuple[Process, str]]:
    """A page of a robot that runs, as the runtime starts it, and its address. keys: it is encrypted
    and has its log in their folder's."""
    source = StoreFollower(store_path)
    wishes = Segment.client_page(source.layout.epoch)
    source.close()
    arguments = [str(schedule.path), store_path, str(wishes.fd), "127.0.0.1:0"]
    arguments += [] if keys is None else [str(keys)]
    state = {} if keys is None else {"XDG_STATE_HOME": str(keys.parent)}
    page = Process("page", "inphase.web", arguments, [wishes.fd], environment=state)
    page.wait_ready()
    yield page, page.said.partition(" ")[0]
    page.stop()
    wishes.close()


def watch(address: str, count: int) -> None:
    """So many viewers that read all they are sent."""

    def read() -> None:
        options: dict[str, Any] = {"origin": f"http://{address}", "compression": None}
        with connect(f"ws://{address}/api/live", **options) as viewer:
            for _ in viewer:
                pass

    for _ in range(count):
        threading.Thread(target=read).start()


def flood(address: str) -> None:
    """Handshakes that are begun and not finished, as fast as they are accepted."""
    host, _, port = address.partition(":")
    open_ones: deque[socket.socket] = deque()
    while True:
        with contextlib.suppress(OSError):
            made = socket.create_connection((host, int(port)), source_address=("127.0.0.3", 0))
            open_ones.append(made)
            made.sendall(_HELLO)
        if len(open_ones) > _PEERS:
            open_ones.popleft().close()


@contextlib.contextmanager
def _flooded(address: str) -> Iterator[None]:
    peers = subprocess.Popen([sys.executable, "-m", "benches.page", address, "flood"])
    time.sleep(_SETTLE_S)
    yield
    peers.kill()
    peers.wait()


@contextlib.contextmanager
def _watched(address: str) -> Iterator[None]:
    viewers = subprocess.Popen(
        [sys.executable, "-m", "benches.page", address, str(_VIEWERS)], stderr=subprocess.DEVNULL
    )
    yield
    viewers.kill()
    viewers.wait()


def _cpu_ns(process: int) -> int:
    tasks = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in tasks)


def _block(source: StoreFollower, page: Process) -> tuple[dict[str, NDArray[np.int64]], float]:
    """Distributions of some seconds, and the page's share of a core meanwhile."""
    time.sleep(_SETTLE_S)
    reader = source.reader
    before = {name: buckets(reader.path, index) for name, index in _HISTOGRAMS.items()}
    thread = Path(f"/proc/{reader.status()['thread_id']}/schedstat")
    first, ours_ns = reader.status()["cycles"], _cpu_ns(page.pid)
    cpu_ns = int(thread.read_text().split()[0])
    time.sleep(_BLOCK_S)
    cpu_ns = int(thread.read_text().split()[0]) - cpu_ns
    share = (_cpu_ns(page.pid) - ours_ns) / (_BLOCK_S * 1e9)
    found = {"CPU": np.array([cpu_ns // (reader.status()["cycles"] - first)])}
    for name, index in _HISTOGRAMS.items():
        count, top = buckets(reader.path, index)
        found[name] = np.repeat(top, count - before[name][0])
    return found, share


def _memory_mb(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def _requests(address: str, count: int) -> NDArray[np.int64]:
    """Nanoseconds of requests for a small file, each with a handshake of its own."""
    host, _, port = address.partition(":")
    context = ssl._create_unverified_context()
    request = f"GET /icon.svg HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()
    found = []
    for _ in range(count):
        begun_ns = time.monotonic_ns()
        with context.wrap_socket(socket.create_connection((host, int(port)))) as line:
            line.sendall(request)
            assert line.recv(15) == b"HTTP/1.1 200 OK"
        found.append(time.monotonic_ns() - begun_ns)
    return np.array(found, np.int64)


def _handshakes(options: Options, page: Process, address: str) -> list[dict[str, Any]]:
    """Rounds without, with, without peers that never finish their handshakes."""
    figure = Rounds("a request beside unfinished handshakes", goal=None, judged=("p50", "p99"))
    before_mb = _memory_mb(page.pid)
    count = options.many(_REQUESTS, 2)
    _requests(address, 2)
    for _ in range(options.many(max(options.rounds // 3, 5), 1)):
        blocks = []
        for is_flooded in (False, True, False):
            with _flooded(address) if is_flooded else contextlib.nullcontext():
                blocks.append(_requests(address, count))
        figure.add(*blocks)
    result = figure.result()
    show(result)
    after_mb = _memory_mb(page.pid)
    print(f"  memory of the page's process: {before_mb:.0f} MB before, {after_mb:.0f} MB after")
    return [result, {"name": "handshakes", "before_mb": before_mb, "after_mb": after_mb}]


def _pages(
    options: Options, source: StoreFollower, page: Process, address: str
) -> list[dict[str, Any]]:
    """Rounds without, with, without viewers."""
    names = {"CPU": "CPU time of the cycle thread per cycle", **{n: n for n in _HISTOGRAMS}}
    figures = {
        name: Rounds(f"{text}, {_VIEWERS} pages open", goal=1.0, judged=("p50",))
        for name, text in names.items()
    }
    shares: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.many(max(options.rounds // 3, 5), 1)):
        blocks = []
        for is_watched in (False, True, False):
            with _watched(address) if is_watched else contextlib.nullcontext():
                found, share = _block(source, page)
            blocks.append(found)
            shares[is_watched].append(share)
        for name, figure in figures.items():
            figure.add(*(block[name] for block in blocks))
    results = [figure.result() for figure in figures.values()]
    for result in results:
        show(result)
    unseen, seen = (float(np.median(shares[one])) for one in (False, True))
    memory_mb = _memory_mb(page.pid)
    print(f"  the page's process: {unseen:.2%} of a core unseen, {seen:.2%} with {_VIEWERS} pages")
    print(f"  its memory at the end: {memory_mb:.0f} MB")
    return [*results, {"name": "page", "unseen": unseen, "seen": seen, "memory_mb": memory_mb}]


_LOADED = """
(() => {
  const [{ startTime: at }] = performance.getEntriesByName("interactive");
  const of = (kind) => performance.getEntriesByType(kind);
  const before = [...of("resource"), ...of("navigation")].filter((one) => one.responseEnd <= at);
  const bytes = before.reduce((sum, one) => sum + one.encodedBodySize, 0);
  return { at, requests: before.length, bytes };
})()
"""


def _openings(address: str, count: int) -> tuple[list[float], list[float], dict[str, int]]:
    """Milliseconds from the address to the interactive page, each in a new browser profile; to the
    end of a text file of the same server, in turn; and what the page had loaded by then."""
    from playwright.sync_api import sync_playwright

    found, texts, loaded = [], [], {}
    options = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=_BROWSER, args=options)
        for _ in range(count):
            context = browser.new_context()
            shown = context.new_page()
            shown.goto(f"http://{address}/", wait_until="commit")
            shown.wait_for_selector("html[data-live]")
            loaded = shown.evaluate(_LOADED)
            found.append(float(loaded.pop("at")))
            context.close()
            time.sleep(0.5)
            context = browser.new_context()
            shown = context.new_page()
            shown.goto(f"http://{address}/vendor/LICENSES.txt")
            end = "performance.getEntriesByType('navigation')[0].loadEventEnd"
            texts.append(float(shown.evaluate(end)))
            context.close()
            time.sleep(0.5)
        browser.close()
    return found, texts, loaded


def _interactive(address: str, options: Options) -> list[dict[str, Any]]:
    """On the machine as it is, and with a hog on every core."""
    if _BROWSER is None:
        print("no Chromium: apt install chromium-headless-shell")
        return []
    results = []
    for hogs in (0, 2):
        busy = [subprocess.Popen([sys.executable, "-c", _HOG]) for _ in range(hogs)]
        times, texts, loaded = _openings(address, options.many(_OPENINGS, 1))
        for one in busy:
            one.kill()
            one.wait()
        name = f"ms until interactive, {hogs} hogs"
        text_ms = float(np.median(texts))
        results.append(
            {
                "name": name,
                "median_ms": float(np.median(times)),
                "max_ms": max(times),
                "text_ms": text_ms,
                **loaded,
            }
        )
        print(f"{name}: median {np.median(times):.0f}, all {[round(one) for one in times]}")
        print(f"  a text file of the same server: median {text_ms:.0f}")
        print(f"  by then: {loaded['requests']} requests, {loaded['bytes']} bytes")
    return results


def run(options: Options) -> list[dict[str, Any]]:
    """The robot's cycle first, then a browser."""
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as name:
        schedule = _demo(Path(name))
        keys = Path(name) / "keys"
        KeyFolder(keys).create("ann", "watch", Path(name) / "ann.key")
        with Runner(schedule) as runner:
            store_path = runner.store_path
            with _served(store_path, schedule, keys) as (page, address):
                results = _handshakes(options, page, address)
            with _served(store_path, schedule) as (page, address):
                source = StoreFollower(store_path)
                results += _pages(options, source, page, address)
                results += _interactive(address, options)
                source.close()
    return results


if __name__ == "__main__":
    if sys.argv[2] == "flood":
        flood(sys.argv[1])
    watch(sys.argv[1], int(sys.argv[2]))
