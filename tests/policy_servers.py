"""A policy server of openpi's protocol as a process of its own, for tests: right, or wrong.

    python tests/policy_servers.py PORT ROWS FAULT ARGUMENT LOG

It infers in its event loop, as openpi's own server does, so that it answers nothing meanwhile. The
first FAULT_AT requests of the process are answered well. Written from the protocol, without the
package's modules: a policy that goes to where the state is, and on by 2 mrad per row.
"""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np
import websockets
from websockets.asyncio.server import serve

FAULT_AT = 3
STEP = 0.002
_FRAGMENT = 1 << 20


def packed(value: Any) -> Any:
    """An array as openpi's packer has it."""
    return {
        b"__ndarray__": True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": value.shape,
    }


def pack(content: Any) -> bytes:
    return bytes(msgpack.packb(content, default=packed))


def unpack(message: bytes) -> Any:
    def array(found: dict[Any, Any]) -> Any:
        if b"__ndarray__" not in found:
            return found
        flat = np.frombuffer(found[b"data"], found[b"dtype"])
        return flat.reshape(found[b"shape"])

    return msgpack.unpackb(message, object_hook=array)


def raw(data: bytes, dtype: str, shape: Any) -> bytes:
    """An answer whose array says anything of itself."""
    array = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    return bytes(msgpack.packb({"actions": array}))


class Server:
    """The server, in its process."""

    def __init__(self, rows: int, fault: str, argument: float, log: Path) -> None:
        self.rows = rows
        self.fault = fault
        self.argument = argument
        self.log = log
        self.requests = 0
        if log.exists():  # another one was here before
            self.requests = FAULT_AT + 1

    async def handle(self, websocket: Any) -> None:
        if self.fault == "text for metadata":
            await websocket.send("hello")
        else:
            await websocket.send(pack({"of": "a test", "reset_pose": np.zeros(6)}))
        while True:
            try:
                message = await websocket.recv()
                self.requests += 1
                await self.answer(websocket, unpack(message))
            except websockets.ConnectionClosed:
                return
            except Exception:
                await websocket.send(traceback.format_exc())
                await websocket.close(1011, "Internal server error.")
                raise

    async def answer(self, websocket: Any, observation: dict[str, Any]) -> None:
        self.note(observation)
        is_faulty = self.requests == FAULT_AT + 1
        if self.fault == "slow first" and self.requests == 1:
            time.sleep(self.argument)
        if self.fault == "blocks" and is_faulty:
            time.sleep(self.argument)
        if self.fault == "raises" and is_faulty:
            raise ValueError("no such prompt")
        actions = self.actions(observation)
        whole = pack({"actions": actions, "server_timing": {"infer_ms": 1.5}})
        if is_faulty and (wrong := self.wrong(actions)) is not None:
            await websocket.send(wrong)
        elif is_faulty and self.fault == "dies in its answer":
            head = struct.pack("!BBH", 0x82, 126, len(whole))
            websocket.transport.write(head + whole[: len(whole) // 2])
            await asyncio.sleep(0.01)
            websocket.transport.abort()
        elif is_faulty and self.fault == "exits":
            os._exit(3)
        elif is_faulty and self.fault == "too long":
            await websocket.send([bytes(_FRAGMENT)] * 20)
        elif is_faulty and self.fault == "answers twice":
            await websocket.send(whole)
            await websocket.send(whole)
        elif is_faulty and self.fault == "no frame":
            websocket.transport.write(b"\xff\xff\xff\xff an HTTP proxy went mad")
        else:
            await websocket.send(whole)

    def actions(self, observation: dict[str, Any]) -> Any:
        state = np.asarray(observation["observation/state"], np.float64)
        steps = STEP * np.arange(1, self.rows + 1)[:, np.newaxis]
        return (state + steps).astype(np.float32)

    def wrong(self, actions: Any) -> bytes | str | None:
        """A message in place of the right one."""
        data, shape = actions.tobytes(), list(actions.shape)
        nan = actions.copy()
        nan[1, 2] = np.nan
        known: dict[str, bytes | str] = {
            "nan": pack({"actions": nan}),
            "too few rows": pack({"actions": actions[:2]}),
            "too few columns": pack({"actions": actions[:, :5]}),
            "too many columns": pack({"actions": np.tile(actions, 2)}),
            "three dimensions": pack({"actions": actions[np.newaxis]}),
            "another key": pack({"action": actions}),
            "a list": msgpack.packb({"actions": actions.tolist()}),
            "booleans": pack({"actions": actions > 0}),
            "texts": raw(data, "<U1", shape),
            "objects": raw(data, "|O", shape),
            "complex": raw(data, "<c8", [shape[0], shape[1] // 2]),
            "records": raw(data, "|V4", shape),
            "a dtype that is code": raw(data, "f4,(1000000,1000000)f8", shape),
            "a pickle": b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
            "a shape that lies": raw(data, "<f4", [shape[0] + 1, shape[1]]),
            "a huge shape": raw(b"", "<f4", [2**31, 2**31]),
            "a negative shape": raw(data, "<f4", [-shape[0], -shape[1]]),
            "a shape of texts": raw(data, "<f4", ["8", "6"]),
            "deep nesting": b"\x91" * 100_000 + b"\x90",
            "a number": msgpack.packb(7),
            "nothing": b"",
        }
        return known.get(self.fault)

    def note(self, observation: dict[str, Any]) -> None:
        """What came, for the test to read."""

        def shown(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: shown(inner) for key, inner in value.items()}
            if isinstance(value, np.ndarray):
                return [value.dtype.str, list(value.shape), float(value.sum(dtype=np.float64))]
            return value

        with self.log.open("a") as log:
            log.write(json.dumps(shown(observation)) + "\n")


async def main() -> None:
    port, rows, fault, argument, log = sys.argv[1:]
    server = Server(int(rows), fault, float(argument), Path(log))
    async with serve(
        server.handle, "127.0.0.1", int(port), compression=None, max_size=None
    ) as serving:
        print("ready", flush=True)
        await serving.serve_forever()


class PolicyServerProcess:
    """That process, for the tests; started at once, killed at the end.

    fault: one of the names above, or "" for none. log: a file of a line per observation.
    """

    def __init__(
        self, port: int, log: Path, *, rows: int = 8, fault: str = "", argument: float = 0.0
    ) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(port), str(rows), fault, str(argument), str(log)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def observations(self) -> list[dict[str, Any]]:
        """Those that came."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def deaf_listener() -> socket.socket:
    """A socket that takes connections and never says a word."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


if __name__ == "__main__":
    asyncio.run(main())
