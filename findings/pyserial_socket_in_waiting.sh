#!/usr/bin/env bash
# pyserial 3.5: in_waiting of a socket:// port is 0 or 1, however many bytes wait
#
# For a serial port in_waiting is a count of bytes. For the same device behind a serial-to-network
# converter (socket://HOST:PORT) it says only that something can be read. The usual loop
# `read(in_waiting)` then takes one byte per call, and a test like `in_waiting >= packet_size` is
# never true.
# Seen on Python 3.11:
#     100 bytes wait: in_waiting is 1
#     100 reads of in_waiting bytes each
# Read with a size and a timeout, or use the socket itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyserial==3.5
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import select
import socket

import serial

server = socket.create_server(("127.0.0.1", 0))
port = serial.serial_for_url(f"socket://127.0.0.1:{server.getsockname()[1]}", timeout=5)
device, _ = server.accept()
device.sendall(bytes(range(100)))
while len(port._socket.recv(100, socket.MSG_PEEK)) < 100:  # until all of them are here
    select.select([port._socket], [], [], 1)
print(f"100 bytes wait: in_waiting is {port.in_waiting}")
reads = 0
while port.in_waiting:
    port.read(port.in_waiting)
    reads += 1
print(f"{reads} reads of in_waiting bytes each")
PYTHON
diff "$folder/seen" - <<'SEEN'
100 bytes wait: in_waiting is 1
100 reads of in_waiting bytes each
SEEN
