#!/usr/bin/env bash
# cantools 45.1.0: a decoded state is a number only where the database has no name for it
#
# A signal with a value table (VAL_ in a DBC file) is decoded to a NamedSignalValue, which equals its
# name and not its number. A value that the table leaves out is decoded to an int. So a drive's check
# `message["state"] != 0` is always true, and the type of one signal changes from frame to frame.
# Seen on Python 3.11:
#     0: NamedSignalValue, == 0 False, == 'off' True
#     1: NamedSignalValue, == 1 False, == 'on' True
#     2: int, == 2 True
# Decode with decode_choices=False where a program decides.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet cantools==45.1.0
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import cantools

DRIVE = """VERSION ""
NS_ :
BS_:
BU_: Host
BO_ 100 Drive: 1 Host
 SG_ state : 0|8@1+ (1,0) [0|3] "" Host
VAL_ 100 state 0 "off" 1 "on" ;
"""
database = cantools.database.load_string(DRIVE, "dbc")
for number, name in enumerate(("off", "on", None)):
    state = database.decode_message("Drive", bytes([number]))["state"]
    text = f"{number}: {type(state).__name__}, == {number} {state == number}"
    print(text if name is None else f"{text}, == {name!r} {state == name}")
PYTHON
diff "$folder/seen" - <<'SEEN'
0: NamedSignalValue, == 0 False, == 'off' True
1: NamedSignalValue, == 1 False, == 'on' True
2: int, == 2 True
SEEN
