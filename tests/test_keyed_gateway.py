"""A gateway that asks for keys: who is given frames, who is not, and from when on not any more."""

import contextlib
import json
import os
import queue
import shutil
import socket as sockets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from inphase import schedule
from inphase.access.keys import KeyFolder
from inphase.episodes.lockstep import LockStep
from inphase.errors import AccessError
from inphase.frames import wire
from inphase.frames.sending import describe
from inphase.frames.store import Reader
from inphase.frames.subscription import Subscription, subscribe
from inphase.host import store_names
from peers import ROOT, until

WAIT_S = 30.0

pytestmark = pytest.mark.real


class Keyed:
    """The demo robot in lock step, stepped by a thread, and a gateway that asks for keys."""

    def __init__(self, folder: Path) -> None:
        self.keys = KeyFolder(folder / "keys")
        with sockets.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.endpoint = f"tcp://0.0.0.0:{probe.getsockname()[1]}"
        self.address = self.endpoint.replace("0.0.0.0", "127.0.0.1")
        text = (ROOT / "schedules" / "demo.toml").read_text()
        text = text.replace("ipc:///tmp/inphase-demo/frames", self.endpoint)
        text = text.replace("[gateway]", '[gateway]\nkeys = "keys"')
        text = text.replace("/tmp/inphase-demo", str(folder / "sockets"))
        self.path = folder / "robot.toml"
        self.path.write_text(text.replace('name = "demo"', f'name = "{folder.name}"'))
        (folder / "demo_policy.py").write_text((ROOT / "schedules/demo_policy.py").read_text())
        self._undo = contextlib.ExitStack()
        self.robot = self._undo.enter_context(LockStep(schedule.load(self.path)))
        fds = [self.robot.core.segment.fd]
        name = store_names.Name(self.robot.schedule.name, self.robot.core.epoch, fds)
        self._undo.callback(name.close)
        self.said = folder / "said"
        self.cycle = 0

    def start(self) -> int | None:
        """The gateway's exit code where it does not start."""
        line = [sys.executable, "-m", "inphase.host.child", str(os.getpid())]
        line += ["inphase.runtime.gateway", str(self.path), self.robot.core.segment.path]
        with self.said.open("ab") as said:
            child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=said)
        assert child.stdout is not None
        if child.stdout.readline().split() != [b"ready"]:
            child.stdout.close()
            return child.wait(WAIT_S)
        self._undo.callback(child.stdout.close)
        self._undo.callback(child.wait)
        self._undo.callback(child.terminate)
        over = threading.Event()

        def step() -> None:
            while not over.wait(0.005):
                self.cycle = self.robot.step().cycle

        thread = threading.Thread(target=step)
        thread.start()
        self._undo.callback(thread.join)
        self._undo.callback(over.set)
        return None

    def subscribe(self, file: Path, timeout_s: float = WAIT_S) -> Subscription:
        """With the key in a client file."""
        return subscribe(self.address, transport="zmq", timeout_s=timeout_s, key=file)

    def close(self) -> None:
        self._undo.close()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """One whose path is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="inphase-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def keyed(tmp_path: Path) -> Iterator[Keyed]:
    made = Keyed(tmp_path)
    yield made
    made.close()


def test_a_key_gives_frames_from_any_address_of_the_machine(keyed: Keyed, tmp_path: Path) -> None:
    keyed.keys.create("anna", "watch", tmp_path / "anna.toml")
    keyed.start()
    with keyed.subscribe(tmp_path / "anna.toml") as frames:
        first, second = frames.next(), frames.next()
        assert second.cycle > first.cycle
        assert frames.transport == "zmq"


def test_without_a_key_or_with_an_unlisted_one_not_a_byte_comes(
    keyed: Keyed, tmp_path: Path
) -> None:
    anna = keyed.keys.create("anna", "watch", tmp_path / "anna.toml")
    other = KeyFolder(tmp_path / "other").create("ben", "drive", tmp_path / "ben.toml")
    keyed.start()
    with zmq.Context() as context, contextlib.ExitStack() as undo:

        def strange(secure: Any) -> "zmq.Socket[Any]":
            socket: zmq.Socket[Any] = undo.enter_context(context.socket(zmq.SUB))
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.SUBSCRIBE, b"")
            secure(socket)
            socket.connect(keyed.address)
            return socket

        strangers = [
            strange(lambda socket: None),  # knows nothing of keys
            strange(other.secure),  # of another service
            strange(other._replace(server=anna.server).secure),  # unlisted
        ]
        until(lambda: other.public in keyed.said.read_text())
        with keyed.subscribe(tmp_path / "anna.toml") as frames:
            for _ in range(50):
                frames.next()
        assert [socket.poll(0) for socket in strangers] == [0, 0, 0]
    assert "not on the list" in keyed.said.read_text()


def test_a_key_that_is_admitted_while_its_client_waits_gets_frames(
    keyed: Keyed, tmp_path: Path
) -> None:
    KeyFolder(keyed.keys.folder).server()
    file, kept = tmp_path / "anna.toml", keyed.keys.folder / "allowed.toml"
    anna = keyed.keys.create("anna", "watch", file)
    text = kept.read_text()
    kept.unlink()
    keyed.start()
    got: list[int] = []

    def wait() -> None:
        with keyed.subscribe(file) as frames:
            got.append(frames.next().cycle)

    waiting = threading.Thread(target=wait)
    waiting.start()
    until(lambda: anna.public in keyed.said.read_text())
    assert not got
    kept.touch(mode=0o600)
    kept.write_text(text)
    waiting.join()
    assert got


def test_a_revoked_key_gets_no_frame_more_and_all_others_go_on(
    keyed: Keyed, tmp_path: Path
) -> None:
    for name in ("anna", "ben"):
        keyed.keys.create(name, "watch", tmp_path / f"{name}.toml")
    keyed.start()
    with (
        keyed.subscribe(tmp_path / "anna.toml") as revoked,
        keyed.subscribe(tmp_path / "ben.toml") as kept,
    ):
        revoked.next(), kept.next()
        keyed.keys.revoke("anna")
        until(lambda: "the sender of frames ended (exit code 16)" in keyed.said.read_text())
        last = keyed.cycle
        while kept.next().cycle <= last:
            pass  # what waited for it
        with pytest.raises(TimeoutError, match="is the key of anna admitted there"):
            while True:
                assert revoked.next(timeout_s=3.0).cycle <= last
    assert "the key of anna, revoked at " in keyed.said.read_text()


def test_keys_that_cannot_be_read_let_nobody_in_until_they_can(
    keyed: Keyed, tmp_path: Path
) -> None:
    keyed.keys.create("anna", "watch", tmp_path / "anna.toml")
    keyed.start()
    with keyed.subscribe(tmp_path / "anna.toml") as frames:
        frames.next()
        keyed.keys.folder.chmod(0o750)
        until(lambda: keyed.said.read_text().count("chmod 700") >= 2)
        keyed.keys.folder.chmod(0o700)
        last = keyed.cycle
        while frames.next().cycle < last:
            pass


def test_a_gateway_without_its_folder_does_not_start(tmp_path: Path) -> None:
    made = Keyed(tmp_path)
    with contextlib.closing(made):
        made.keys.folder.rmdir()
        assert made.start() == AccessError.exit_code
        said = made.said.read_text()
        assert (
            f"{made.path}:" in said and "gateway.keys: " in said and "inphase keys create" in said
        )


def test_the_command_line_takes_a_key(keyed: Keyed, tmp_path: Path) -> None:
    keyed.keys.create("anna", "watch", tmp_path / "anna.toml")
    keyed.start()
    line = [sys.executable, "-m", "inphase", "echo", keyed.address, "--json", "-n", "2"]
    line += ["--transport", "zmq", "--key", str(tmp_path / "anna.toml")]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert [json.loads(line)["cycle"] >= 0 for line in done.stdout.splitlines()] == [True, True]
    (tmp_path / "anna.toml").chmod(0o644)
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 16 and "chmod 600" in done.stderr


def test_a_subscriber_whose_socket_went_deaf_makes_another(keyed: Keyed) -> None:
    """A message above its bound makes a socket deaf for ever; the publisher is foreign."""
    with contextlib.closing(Reader(keyed.robot.core.segment.path)) as reader:
        hello = wire.TOPIC_DESCRIPTION + msgpack.packb(describe(reader))
    ports: queue.SimpleQueue[int] = queue.SimpleQueue()
    asked: list[bytes] = []
    over = threading.Event()

    def publish() -> None:
        with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
            publisher.setsockopt(zmq.LINGER, 0)
            publisher.setsockopt(zmq.XPUB_WELCOME_MSG, hello)
            ports.put(publisher.bind_to_random_port("tcp://127.0.0.1"))
            while not over.is_set():
                if publisher.poll(20):
                    asked.append(publisher.recv())
                    if asked[-1] == b"\1" + wire.TOPIC_FRAME:
                        is_first = asked.count(asked[-1]) == 1
                        large = [wire.TOPIC_FRAME, bytes(65 << 20)]
                        publisher.send_multipart(large if is_first else [wire.TOPIC_END])

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        address = f"tcp://127.0.0.1:{ports.get()}"
        with subscribe(address, transport="zmq", timeout_s=WAIT_S) as frames:
            assert not list(frames)  # its end came, to another socket
        assert asked.count(b"\1" + wire.TOPIC_FRAME) == 2
    finally:
        over.set()
        thread.join()
