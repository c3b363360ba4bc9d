#!/usr/bin/env bash
# foxglove-sdk 0.30.3: a new channel refuses who subscribes to it at once
#
# A server tells its clients of a channel that is made while they are connected. A client that
# subscribes as soon as it reads that is told "Unknown channel ID" now and then, and never gets a
# message: the server takes subscriptions a moment later only. At the start of a connection, where
# all channels are told at once, no subscription is refused.
# Seen on Python 3.11, two cores with three busy processes: 79 of 3000 refused, and 0 of 3200.
# Make all channels before the server, or start another server for others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet foxglove-sdk==0.30.3 websockets==17.4
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import json
import subprocess
import sys
import threading
import time

import foxglove
from websockets.sync.client import connect

context = foxglove.Context()
server = foxglove.start_server(host="127.0.0.1", port=0, context=context)
schema = foxglove.Schema(name="x", encoding="protobuf", data=b"")
asked, refused = [], []


def make(topic: str) -> None:
    foxglove.Channel(topic, message_encoding="protobuf", schema=schema, context=context)


def client() -> None:
    """Subscribes to all that it is told of, one by one, until a second is silent."""
    with connect(f"ws://127.0.0.1:{server.port}", subprotocols=["foxglove.sdk.v1"]) as socket:
        while True:
            try:
                said = json.loads(socket.recv(1))
            except TimeoutError:
                return
            if said["op"] == "status":
                refused.append(said["message"])
            for one in said.get("channels", []):
                wanted = [{"id": one["id"], "channelId": one["id"]}]
                socket.send(json.dumps({"op": "subscribe", "subscriptions": wanted}))
                asked.append(one["topic"])


def together(count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


for number in range(10):
    make(f"/first/{number}")
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
try:
    for _ in range(40):
        for thread in together(8):
            thread.join()
    at_start = len(asked), len(refused)
    asked.clear()
    threads = together(2)
    time.sleep(0.5)
    for number in range(20_000):
        make(f"/later/{number}")
        time.sleep(0.001)
        if refused:
            break
    for thread in threads:
        thread.join()
finally:
    for process in busy:
        process.kill()
print(f"at the start of a connection: {at_start[0]} subscriptions, {at_start[1]} refused")
print(f"of channels made later: {len(asked) - 20} subscriptions, then: {refused[:1]}")
sys.exit(at_start[1] != 0 or not refused[0].startswith("Unknown channel ID"))
PYTHON
