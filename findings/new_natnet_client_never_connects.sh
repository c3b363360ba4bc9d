#!/usr/bin/env bash
# new-natnet-client 4.1.2: its connection request is never sent, so a unicast server never streams to it
#
# connect() asks the server for a connection before it sets the flag that lets it send anything:
# send_request() returns -1, and nobody looks at it. The object says that it is connected. With
# multicast, frames come all the same; with unicast none ever does.
# Seen on Python 3.11 (a socket that stands for the server):
#     connected: True
#     packets after connecting: 0
#     packets after asking by hand: 1
# Ask by hand: client.send_request(NAT_Messages.CONNECT, "").
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet new-natnet-client==4.1.2
"$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PYTHON' | tee "$folder/seen"
import os
import socket

from new_natnet_client.Client import NatNetClient
from new_natnet_client.NatNetTypes import NAT_Messages

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
server.settimeout(3)


def packets():
    try:
        server.recv(4096)
    except TimeoutError:
        return 0
    return 1


client = NatNetClient(use_multicast=False, command_port=server.getsockname()[1])
print(f"connected: {client.connected}")
print(f"packets after connecting: {packets()}")
client.send_request(NAT_Messages.CONNECT, "")
print(f"packets after asking by hand: {packets()}", flush=True)
os._exit(0)  # its threads hold up the end
PYTHON
diff "$folder/seen" - <<'SEEN'
connected: True
packets after connecting: 0
packets after asking by hand: 1
SEEN
