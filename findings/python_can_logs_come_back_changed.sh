#!/usr/bin/env bash
# python-can 4.6.1: what a frame loses on its way through each log format
#
# can.Logger takes the format from the file's ending, and can.LogReader reads it back. Without an
# error: csv and db drop channel, direction and the FD flag, so that a CAN FD frame of 12 bytes comes
# back as a classic one; trc leaves out FD and remote frames and counts channels one up; log forgets
# the length of a remote frame; asc gives times from the log's beginning. Only blf keeps them all.
# Seen on Python 3.11 (four frames: channel 1 received, channel 2 sent, FD of 12 bytes, remote of 8):
#     see the table at the end
# Record in blf where frames are to be replayed or compared.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet python-can==4.6.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null | tee "$folder/seen"
import can

START = 1_700_000_000.25
FRAMES = [
    can.Message(START, 0x181, False, channel=1, data=bytes(8)),
    can.Message(START + 1, 0x201, False, channel=2, data=bytes(2), is_rx=False),
    can.Message(START + 2, 0x182, False, channel=1, data=bytes(12), is_fd=True, bitrate_switch=True),
    can.Message(START + 3, 0x183, False, channel=1, is_remote_frame=True, dlc=8),
]


def told(frame: can.Message) -> str:
    kind = "remote" if frame.is_remote_frame else "FD" if frame.is_fd else "classic"
    way = "received" if frame.is_rx else "sent"
    return f"{frame.channel} {way} {kind} {frame.dlc}"


print("made:", "; ".join(map(told, FRAMES)))
for ending in ("asc", "blf", "csv", "db", "log", "trc"):
    with can.Logger(f"frames.{ending}") as log:
        for frame in FRAMES:
            log(frame)
    back = list(can.LogReader(f"frames.{ending}"))
    print(f"{ending}: first at {back[0].timestamp}:", "; ".join(map(told, back)))
PYTHON
diff "$folder/seen" - <<'SEEN'
made: 1 received classic 8; 2 sent classic 2; 1 received FD 12; 1 received remote 8
asc: first at 0.0: 1 received classic 8; 2 sent classic 2; 1 received FD 12; 1 received remote 8
blf: first at 1700000000.25: 1 received classic 8; 2 sent classic 2; 1 received FD 12; 1 received remote 8
csv: first at 1700000000.25: None received classic 8; None received classic 2; None received classic 12; None received remote 8
db: first at 1700000000.25: None received classic 8; None received classic 2; None received classic 12; None received remote 8
log: first at 1700000000.25: can1 received classic 8; can2 sent classic 2; can1 received FD 12; can1 received remote 0
trc: first at 1700000000.25: 2 received classic 8; 3 sent classic 2
SEEN
