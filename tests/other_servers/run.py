"""A policy server's protocol, judged by the package openpi-client: its codec, and its client."""

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from inphase import load  # noqa: E402
from inphase.episodes.lockstep import LockStep  # noqa: E402
from inphase.policy.openpi import array_format  # noqa: E402
from peers import free_port  # noqa: E402
from policy_servers import PolicyServerProcess  # noqa: E402
from runtimes import Robot  # noqa: E402

PEER = [str(ROOT / "build/peers/bin/python"), str(ROOT / "tests/other_servers/openpi_peer.py")]
ROWS = 10
SERVER = """[policy]
allow = ["network"]
every = 5
chunk = 10
[policy.server]
url = "ws://127.0.0.1:{port}"
[policy.server.observation]
"observation/state" = {{ fields = ["joints.position"] }}
prompt = {{ text = "sway" }}
"""
IMAGES = """"raw" = { image = "image.image" }
"observation/image" = { image = "image.image", size = [224, 224] }
"images.planar" = { image = "image.image", layout = "CHW" }
"""


def output(*arguments: str) -> str:
    """Of the peer."""
    done = subprocess.run(
        [*PEER, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def peer(port: int, log: Path) -> Iterator[None]:
    """The peer as a server."""
    command = [*PEER, "serve", str(port), str(ROWS), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    yield
    assert process.poll() is None
    process.kill()
    process.wait()


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def bytes_are_its_own() -> None:
    """An observation has the bytes that its packer makes."""
    known: dict[str, Any] = {
        "observation/state": np.arange(7, dtype=np.float32) / 3,
        "observation/wide": np.arange(3, dtype=np.float64),
        "images": {"wrist": np.arange(24, dtype=np.uint8).reshape(2, 4, 3)},
        "prompt": "pick up the \N{GREEK SMALL LETTER ALPHA} cup",
    }
    theirs = bytes.fromhex(output("pack"))
    assert array_format.pack(known) == theirs
    decoded = array_format.unpack(theirs)
    for key in ("observation/state", "observation/wide"):
        assert np.array_equal(array_format.array(decoded[key], key), known[key])
    print(f"bytes: {len(theirs)} of an observation, as openpi-client packs it")


def its_client_asks_our_server(folder: Path) -> None:
    """The server of our tests is one of this protocol: its client is served by it."""
    port = free_port(socket.SOCK_STREAM)
    with PolicyServerProcess(port, folder / "client", rows=ROWS):
        found = json.loads(output("ask", str(port), "20"))
    assert found["answers"] == [["<f4", [ROWS, 6]]] * 20
    print(f"client: 20 answers of {ROWS} rows to its WebsocketClientPolicy")


def its_codec_serves_a_simulated_arm(folder: Path) -> None:
    """Lock step with a camera: the images are those that its own tools make."""
    port, log = free_port(socket.SOCK_STREAM), folder / "lockstep"
    text = (ROOT / "schedules/arm.toml").read_text()
    start, end = text.index("[policy]"), text.index("# ---- what follows")
    text = text[:start] + SERVER.format(port=port) + IMAGES + text[end:]
    text = text.replace('"arm.xml"', f'"{ROOT}/schedules/arm.xml"')
    folder.joinpath("arm.xml").symlink_to(ROOT / "schedules" / "arm.xml")
    path = folder / "arm.toml"
    path.write_text(text.replace(f"{ROOT}/schedules/", ""))
    with peer(port, log), LockStep(load(path)) as robot:
        robot.run(200)
        counts = robot.follower.reader.counts()
    found = lines(log)
    assert len(found) >= 30 and counts["commands"] > 150, (len(found), counts)
    assert all(one["resized as its own"] and one["planar"] for one in found)
    assert {one["observation/image"][1][0] for one in found} == {224}
    print(f"lock step: {len(found)} observations with images, {counts['commands']} commands")


def its_codec_moves_the_emulated_arm(folder: Path) -> None:
    """The whole path on the wall clock, in the sandbox."""
    port, log = free_port(socket.SOCK_STREAM), folder / "run"
    with Robot() as robot:
        robot.write(('[policy]\ncall = "sweep.py:Sweep"\n', SERVER.format(port=port)))
        with peer(port, log), robot.run("--cycles", "400") as run:
            code, summary = run.end()
            assert code == 0, run.stderr
    policy = summary["policy"]
    moved = min(summary["actuators"]["arm"]["measured"])
    assert moved > 0.1 and policy["server"]["answers"] > 20, summary
    assert policy["server"]["malformed"] == policy["server"]["lost"] == 0
    # the first answer of a connection is not used
    assert len(lines(log)) >= policy["server"]["answers"]
    print(f"wall clock: {policy['server']['answers']} answers, each joint moved by {moved:.2f} rad")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="inphase-peers-") as name:
        folder = Path(name)
        bytes_are_its_own()
        its_client_asks_our_server(folder)
        its_codec_serves_a_simulated_arm(folder)
        its_codec_moves_the_emulated_arm(folder)


if __name__ == "__main__":
    main()
