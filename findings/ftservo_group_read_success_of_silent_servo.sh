#!/usr/bin/env bash
# ftservo-python-sdk 2.0.1: a group read says success while a servo is silent, and keeps its old value
#
# GroupSyncRead.txRxPacket of Feetech's own SDK returns the result of the last servo of the group. A
# servo before it that does not answer changes nothing: the result is COMM_SUCCESS, and getData gives
# the value of an earlier read, or an error where there was none. Where all are silent the result
# tells it, and getData still gives the earlier values.
# Seen on Python 3.11 (two servos behind a pseudo-terminal, answers written byte by byte here):
#     both answer: result 0, positions 1000 2000
#     the first is silent: result 0, isAvailable False True
#     both silent: result -6, positions 1001 2001
# Ask isAvailable of each servo, and look at the result before any value is used.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ftservo-python-sdk==2.0.1 pyserial==3.5
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import os
import threading

import scservo_sdk as sdk

ours, theirs = os.openpty()


def answer(ident, position):
    body = bytes([ident, 4, 0]) + position.to_bytes(2, "little")
    return b"\xff\xff" + body + bytes([~sum(body) & 0xFF])


def serve(answers):
    os.read(ours, 64)
    if answers:
        os.write(ours, answers)


def ask(*answers):
    peer = threading.Thread(target=serve, args=(b"".join(answers),))
    peer.start()
    result = group.txRxPacket()
    peer.join()
    return result


port = sdk.PortHandler(os.ttyname(theirs))
port.openPort()
port.setBaudRate(1_000_000)
group = sdk.GroupSyncRead(sdk.sms_sts(port), 56, 2)
group.addParam(1)
group.addParam(2)
values = lambda: " ".join(str(group.getData(ident, 56, 2)) for ident in (1, 2))
there = lambda: " ".join(str(group.isAvailable(ident, 56, 2)[0]) for ident in (1, 2))
print(f"both answer: result {ask(answer(1, 1000), answer(2, 2000))}, positions {values()}")
print(f"the first is silent: result {ask(answer(2, 2001))}, isAvailable {there()}")
ask(answer(1, 1001), answer(2, 2001))
print(f"both silent: result {ask()}, positions {values()}")
PYTHON
diff "$folder/seen" - <<'SEEN'
both answer: result 0, positions 1000 2000
the first is silent: result 0, isAvailable False True
both silent: result -6, positions 1001 2001
SEEN
