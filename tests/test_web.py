"""The page's server: who is answered, what viewers are sent, what a bad one costs, and the stop."""

import contextlib
import hashlib
import io
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from inphase.errors import ScheduleError
from inphase.frames import meanings
from inphase.schedule import load
from inphase.web import viewers
from inphase.web.cycle_times import EDGES_US
from inphase.web.door import bounded_server
from peers import BOUND_S, ROOT, until
from robots import demo_schedule
from runtimes import Robot
from served_pages import ServedPage

pytestmark = pytest.mark.real

STATIC = ROOT / "middleware" / "inphase" / "web" / "static"
FORBIDDEN, NOT_FOUND = 403, 404


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with ServedPage(tmp_path_factory.mktemp("page")) as made:
        yield made


# ---- who is answered ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["robot.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"]
)
def test_a_request_that_names_another_host_is_refused(page: ServedPage, host: str) -> None:
    assert page.ask("/", Host=host)[0] == FORBIDDEN
    line = socket.create_connection(page.place, BOUND_S)
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://{host}/api/live", sock=line, origin=Origin(f"http://{host}"))


def test_the_page_is_found_by_the_names_of_this_host(page: ServedPage) -> None:
    for host in ("localhost", "127.0.0.1:9000", "[::1]:8470"):
        status, _, body = page.ask("/", Host=host)
        assert status == 200 and b'<button id="stop"' in body


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://localhost"])
def test_who_does_not_come_from_the_page_neither_stops_nor_watches(
    page: ServedPage, origin: str | None
) -> None:
    named = {} if origin is None else {"Origin": origin}
    assert page.ask("/api/stop", "POST", **named)[0] == FORBIDDEN
    with pytest.raises(InvalidStatus, match="403"):
        page.watch(origin=origin)


def test_a_stop_is_no_reading(page: ServedPage) -> None:
    assert page.ask("/api/stop")[0] == NOT_FOUND
    assert page.ask("/api/stop", "POST", Origin=page.url)[0] == 200


@pytest.mark.parametrize(
    "path", ["/nothing", "/../page_server.py", "/%2e%2e/page_server.py", "/vendor", "/api/"]
)
def test_there_is_nothing_beside_the_pages_files(page: ServedPage, path: str) -> None:
    assert page.ask(path)[0] in (307, NOT_FOUND)


def test_every_answer_keeps_the_browser_to_this_page(page: ServedPage) -> None:
    for path in ("/", "/main.js", "/nothing", "/api/service"):
        _, headers, _ = page.ask(path)
        policy = dict(
            one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";")
        )
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["connect-src"] == f"'self' ws://{page.address}"
        assert policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_the_page_fetches_nothing_from_elsewhere() -> None:
    for path in STATIC.rglob("*"):
        if path.suffix in (".html", ".css", ".js") and path.parent == STATIC:
            assert not re.search(r"https?://|//[a-z]+\.", path.read_text()), path


def test_the_first_look_loads_little_and_nothing_of_others() -> None:
    index = (STATIC / "index.html").read_text()
    loaded = set(re.findall(r'(?:href|src)="([^"]+)"', index))
    waiting = ["main.js"]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        needed.add(name)
        imports = re.findall(r'^import .* from "\./([^"]+)";$', (STATIC / name).read_text(), re.M)
        waiting += set(imports) - needed
    assert needed == {name for name in loaded if name.endswith(".js")}  # all are asked for at once
    assert not [name for name in loaded if "vendor" in name]
    assert sum((STATIC / name).stat().st_size for name in loaded) < 20_000


def test_parts_of_others_are_the_ones_that_are_written_down() -> None:
    folder = STATIC / "vendor"
    listed = dict(re.findall(r"^\| `(\S+)` .* `([0-9a-f]{64})` \|$", _vendor_page(), re.MULTILINE))
    assert set(listed) == {path.name for path in folder.iterdir()}
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def _vendor_page() -> str:
    return (STATIC.parent / "vendor" / "VENDOR.txt").read_text()


def test_an_address_that_others_reach_is_a_fault_of_the_schedule(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, page=True)
    text = path.read_text()
    for address, said in (
        ("0.0.0.0:8470", "add keys = .*ssh -L 8470"),
        ("robot:8470", "0.0.0.0:8470"),
        ("127.0.0.1", "no port"),
    ):
        path.write_text(text.replace("127.0.0.1:8470", address))
        with pytest.raises(ScheduleError, match=said):
            load(path)


def test_a_joint_of_a_sensor_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, page=True)
    path.write_text(path.read_text().replace('"joints.position" = [', '"jonts.position" = ['))
    with pytest.raises(ScheduleError, match=r"'jonts\.position'.*joints"):
        load(path)


def test_a_port_that_is_taken_is_replaced_by_a_free_one(page: ServedPage, tmp_path: Path) -> None:
    with ServedPage(tmp_path, address=page.address) as other:
        assert other.address != page.address
        assert other.ask("/")[0] == 200


# ---- what viewers are sent ---------------------------------------------------------------------


def test_a_viewer_is_first_told_what_the_robot_is(page: ServedPage) -> None:
    with page.watch() as viewer:
        told = json.loads(viewer.recv(BOUND_S))
    assert told["kind"] == "description"
    assert (told["robot"], told["hash"]) == ("demo", page.robot.schedule.hash)
    joints, wrench = told["sensors"]
    assert [field["name"] for field in joints["fields"]][:2] == ["position", "velocity"]
    assert joints["fields"][0] == {"name": "position", "count": 6, "unit": "rad"}
    assert wrench["name"] == "wrench" and not wrench["image"]
    assert told["actuators"][0]["feedback"] == "joints.position"
    assert set(told["meanings"]["state"]) == set(meanings.STATES)


def test_a_frame_has_what_the_core_latched(page: ServedPage) -> None:
    with page.watch() as viewer:
        page.message(viewer, "frame")
        said = page.message(viewer, "frame")
    assert said["state"] == "running" and said["reason"] == "none"
    joints = said["sensors"][0]
    assert joints["status"] == "FRESH" and 0 < joints["age_us"] < 2000
    assert len(joints["values"][0]) == 6
    act = said["acts"][0]
    assert len(act["requested"]) == len(act["applied"]) == 6
    assert np.allclose(act["applied"], joints["values"][0], atol=0.1)


def test_every_cycle_is_in_the_distributions_and_counted_once(page: ServedPage) -> None:
    with page.watch() as viewer:
        first = page.message(viewer, "counts")
        while sum((then := page.message(viewer, "counts"))["bins"]["wake"]) < 100:
            pass
    assert first["edges_us"] == list(EDGES_US)
    cycles = then["cycles"] - first["cycles"]
    counted = sum(then["bins"]["wake"]) - sum(first["bins"]["wake"])
    assert abs(counted - cycles) <= 40  # the counts are of a moment, the frames of another
    assert sum(then["statuses"][0].values()) == pytest.approx(then["cycles"], abs=40)


def test_the_model_is_what_the_bodies_of_a_frame_move(page: ServedPage) -> None:
    status, _, body = page.ask("/api/model")
    assert status == 200
    (size,) = struct.unpack_from("<I", body)
    scene = json.loads(body[4 : 4 + size])
    shapes = [geom["shape"] for geom in scene["geoms"]]
    assert shapes.count("capsule") == 7 and shapes.count("box") == 2
    moved = [geom for geom in scene["geoms"] if geom["body"] is not None]
    with page.watch() as viewer:
        poses = []
        for _ in range(12):
            said = page.message(viewer, "frame")
            poses.append(said.get("poses"))
    assert poses[-1] is not None and len(poses[-1]) == scene["bodies"]
    assert {geom["body"] for geom in moved} <= set(range(scene["bodies"]))
    tool = [pose[scene["bodies"] - 2][:3] for pose in poses if pose]
    assert max(np.ptp(np.array(tool), 0)) > 0.005  # m: the arm swings


def test_a_mesh_of_a_model_is_sent_with_its_colour(tmp_path: Path) -> None:
    with ServedPage(tmp_path) as made:
        corners = "0 0 0  0.1 0 0  0 0.1 0  0 0 0.1"
        (tmp_path / "arm.xml").write_text(
            (tmp_path / "arm.xml")
            .read_text()
            .replace("<asset>", f'<asset><mesh name="wedge" vertex="{corners}"/>')
            .replace(
                '<geom name="tip"',
                '<geom type="mesh" mesh="wedge" rgba="0 1 0 1"/><geom name="tip"',
            )
        )
        _, _, body = made.ask("/api/model")
    (size,) = struct.unpack_from("<I", body)
    scene = json.loads(body[4 : 4 + size])
    (mesh,) = [geom for geom in scene["geoms"] if geom["shape"] == "mesh"]
    assert mesh["colour"] == [0, 1, 0, 1]
    ((_, facts),) = scene["meshes"].items()
    assert (facts["vertices"], facts["faces"]) == (4, 4)
    assert len(body) == 4 + size + 4 * 3 * (4 + 4)


def test_a_model_that_cannot_be_read_is_told_and_the_rest_is_shown(tmp_path: Path) -> None:
    with ServedPage(tmp_path) as made:
        (tmp_path / "arm.xml").write_text("<mujoco>")
        assert made.ask("/api/model")[0] == 204
        with made.watch() as viewer:
            assert "poses" not in made.message(viewer, "frame")


def test_images_come_as_jpeg(tmp_path: Path) -> None:
    with ServedPage(tmp_path, "arm.toml") as made, made.watch() as viewer:
        told = json.loads(viewer.recv(BOUND_S))
        assert [sensor["image"] for sensor in told["sensors"]] == [False, False, False, True]
        assert told["model"] == [0]  # the joints
        came = made.image(viewer)
    assert came[0] == 3
    image = Image.open(io.BytesIO(came[1:]))
    assert (image.format, image.size) == ("JPEG", (320, 240))
    assert np.asarray(image).std() > 1


def test_no_panel_of_a_service_is_there_without_one(page: ServedPage) -> None:
    assert page.ask("/api/service")[0] == 204


# ---- bad viewers -------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["x", b"x", "x" * 100_000])
def test_a_viewer_that_speaks_is_left(page: ServedPage, said: str | bytes) -> None:
    with page.watch() as viewer:
        viewer.send(said)
        with pytest.raises(ConnectionClosed):
            while True:
                viewer.recv(BOUND_S)
    assert viewer.close_code in (1008, 1009)


def test_one_viewer_too_many_is_told_so(page: ServedPage) -> None:
    with page.watch() as first:
        with contextlib.ExitStack() as others:
            for _ in range(viewers.VIEWERS):
                last = others.enter_context(page.watch())
            with pytest.raises(ConnectionClosed):
                while True:
                    last.recv(BOUND_S)
        assert last.close_code == 1013
        assert "pages are open already" in (last.close_reason or "")
        page.message(first, "frame")


def _sockets(page: ServedPage) -> int:
    return len(psutil.Process(page.process.pid).net_connections("tcp"))


def test_connections_that_say_nothing_keep_nobody_out(page: ServedPage) -> None:
    with page.watch() as viewer:
        silent = [
            socket.create_connection(page.place, BOUND_S)
            for _ in range(2 * bounded_server.CONNECTIONS)
        ]
        assert page.ask("/")[0] == 200
        page.message(viewer, "frame")
        assert _sockets(page) <= bounded_server.CONNECTIONS + 8
        for one in silent:
            one.close()
    until(lambda: _sockets(page) < 8)


@pytest.mark.long
def test_a_viewer_that_does_not_read_holds_up_nobody_and_is_left(page: ServedPage) -> None:
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stuck.settimeout(BOUND_S)
    stuck.connect(page.place)
    stuck.sendall(
        b"GET /api/live HTTP/1.1\r\nHost: " + page.address.encode() + b"\r\nOrigin: "
        + page.url.encode() + b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )  # fmt: skip
    assert stuck.recv(12).startswith(b"HTTP/1.1 101")
    with page.watch() as viewer:
        page.message(viewer, "frame")
    before = _sockets(page)
    until(lambda: page.robot.run(1) and _sockets(page) < before)
    stuck.close()


# ---- the stop, on a robot that runs ------------------------------------------------------------


def test_a_robot_that_runs_says_its_page_and_is_stopped_there() -> None:
    with Robot() as robot:
        robot.write(("[actuator.arm]", '[page]\naddress = "127.0.0.1:0"\n[actuator.arm]'))
        with robot.run() as run:
            run.moving()
            until(lambda: "page: http://" in run.stderr)
            page = ServedPage.at(run.stderr)
            assert page.ask("/api/stop", "POST", Origin=page.url)[0] == 200
            frame = run.frame(lambda frame: "ESTOP" in frame.flags)
            assert (frame.reason, frame.detail) == ("estop", 17)
            run.child("inphase.web").kill()
            until(lambda: run.stderr.count("page ended: signal 9") == 1)
            until(lambda: _answers(page))  # another one, at the same address


def _answers(page: ServedPage) -> bool:
    try:
        return page.ask("/")[0] == 200
    except OSError:
        return False


def test_without_its_packages_a_line_says_so_and_the_run_goes_on(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
sys.modules["starlette"] = None
from inphase.runtime.children import Children
from inphase.runtime.client_processes import ClientProcesses
from inphase.schedule import load
described = load(Path(sys.argv[1]))
clients = ClientProcesses(described, described.page, Children(lambda: False), print)
clients.start("no store", -1)
clients.tend()
"""
    path = demo_schedule(tmp_path, page=True)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "no web page: it needs the package starlette; install it: pip install 'inphase[web]'\n"
    )
