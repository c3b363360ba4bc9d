#!/usr/bin/env bash
# rerun-sdk 0.41.0: a viewer that stands still holds the program that logs, and its end
#
# The library keeps what a viewer does not take, some 200 MB of images. Then `log` does not return,
# and at the end of the program nor does its clean-up. `flush(timeout_sec=...)` after each frame does
# return, with the error "Flush timed out": a program that then leaves frames out goes on. To end, it
# wants os._exit: nothing else is bounded.
# Seen on Python 3.11: see the lines at the end; the program's own end was waited for 20 s.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet rerun-sdk==0.41.0 numpy psutil
cat > "$folder/log.py" <<'PYTHON'
import os
import sys
import threading
import time

import numpy as np
import psutil
import rerun as rr

way, port = sys.argv[1:]
rerun = os.path.join(os.path.dirname(sys.executable), "rerun")
server = psutil.Popen([rerun, "--serve-grpc", "--port", port], stdout=-3, stderr=-3)
while not [one for one in psutil.net_connections() if one.laddr and one.laddr.port == int(port)]:
    time.sleep(0.1)
everyone = [server, *server.children(recursive=True)]
stream = rr.RecordingStream("stopped")
stream.connect_grpc(f"rerun+http://127.0.0.1:{port}/proxy")
image = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
logged, left_out, is_held = 0, 0, False


def end() -> None:
    """What there is to say when nothing has moved for 5 s."""
    grown = psutil.Process().memory_info().rss / 1e6 - before
    print(f"{way}: {'log does not return' if way == 'plain' else 'goes on'}",
          f"{'over' if grown > 100 else 'under'} 100 MB", flush=True)


def taken(timeout_s: float) -> bool:
    try:
        stream.flush(timeout_sec=timeout_s)
    except RuntimeError as error:
        assert "timed out" in str(error).lower(), error
        return False
    return True


def log() -> None:
    global logged, left_out, is_held
    for _ in range(500):
        if way == "asked" and is_held and not taken(0.01):
            left_out += 1
            continue
        stream.log("image", rr.Image(image))
        is_held = way == "asked" and not taken(0.02)
        logged += 1
        if logged == 20:
            for one in everyone:
                one.suspend()


before = psutil.Process().memory_info().rss / 1e6
thread = threading.Thread(target=log, daemon=True)
thread.start()
thread.join(20)
assert thread.is_alive() == (way == "plain")
assert (left_out > 0) == (way == "asked")
end()
if way == "plain":
    for one in everyone:
        one.kill()
    os._exit(0)
threading.Timer(20, lambda: (print("asked: the program does not end", flush=True),
                             [one.kill() for one in everyone], os._exit(0))).start()
del stream
PYTHON
{
    "$folder/venv/bin/python" "$folder/log.py" plain 9871 2>"$folder/errors"
    "$folder/venv/bin/python" "$folder/log.py" asked 9872 2>>"$folder/errors"
} | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
plain: log does not return over 100 MB
asked: goes on under 100 MB
asked: the program does not end
SEEN
