"""The package openpi-client, in the environment that has it: as a server's codec, and as a client.

python openpi_peer.py serve PORT ROWS LOG      a server as openpi's own: it infers in its loop
python openpi_peer.py ask PORT COUNT           its WebsocketClientPolicy, COUNT times
python openpi_peer.py pack                     the bytes that it makes of a known observation
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import websockets.asyncio.server
from openpi_client import base_policy, image_tools, msgpack_numpy, websocket_client_policy

STEP = 0.002


class Sway(base_policy.BasePolicy):
    """Goes on from the state by 2 mrad per row."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def infer(self, obs: dict) -> dict:
        state = obs["observation/state"].astype(np.float64)
        steps = STEP * np.arange(1, self.rows + 1)[:, np.newaxis]
        return {"actions": (state + steps).astype(np.float32), "state": obs["observation/state"]}


def seen(obs: dict) -> dict:
    """What its decoder made of an observation."""
    found = {
        key: [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
        for key, value in obs.items()
        if isinstance(value, np.ndarray)
    }
    found["prompt"] = obs["prompt"]
    if "raw" in obs:
        own = image_tools.resize_with_pad(obs["raw"], 224, 224)
        found["resized as its own"] = bool(np.array_equal(own, obs["observation/image"]))
        inner = obs["images"]["planar"]
        found["planar"] = bool(np.array_equal(inner, obs["raw"].transpose(2, 0, 1)))
    return found


async def serve(port: int, rows: int, log: Path) -> None:
    policy = Sway(rows)

    async def handle(websocket: websockets.asyncio.server.ServerConnection) -> None:
        packer = msgpack_numpy.Packer()
        await websocket.send(packer.pack({"served by": "openpi-client's codec"}))
        try:
            async for message in websocket:
                obs = msgpack_numpy.unpackb(message)
                with log.open("a") as file:
                    file.write(json.dumps(seen(obs)) + "\n")
                action = policy.infer(obs)
                action["server_timing"] = {"infer_ms": np.float32(0.5)}
                await websocket.send(packer.pack(action))
        except websockets.ConnectionClosed:
            return

    async with websockets.asyncio.server.serve(
        handle, "127.0.0.1", port, compression=None, max_size=None
    ) as server:
        print("ready", flush=True)
        await server.serve_forever()


def ask(port: int, count: int) -> None:
    client = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", port)
    shapes = []
    for number in range(count):
        state = np.full(6, 0.1 * number, np.float32)
        answer = client.infer({"observation/state": state, "prompt": "go"})
        actions = answer["actions"]
        wanted = state + STEP * np.arange(1, len(actions) + 1)[:, np.newaxis]
        assert np.allclose(actions, wanted, atol=1e-6), actions
        shapes.append([actions.dtype.str, list(actions.shape)])
    print(json.dumps({"metadata": sorted(client.get_server_metadata()), "answers": shapes}))


def known() -> dict:
    """An observation of every kind that is sent."""
    return {
        "observation/state": np.arange(7, dtype=np.float32) / 3,
        "observation/wide": np.arange(3, dtype=np.float64),
        "images": {"wrist": np.arange(24, dtype=np.uint8).reshape(2, 4, 3)},
        "prompt": "pick up the \N{GREEK SMALL LETTER ALPHA} cup",
    }


if __name__ == "__main__":
    job, *given = sys.argv[1:]
    if job == "serve":
        asyncio.run(serve(int(given[0]), int(given[1]), Path(given[2])))
    elif job == "ask":
        ask(int(given[0]), int(given[1]))
    else:
        print(msgpack_numpy.packb(known()).hex())
