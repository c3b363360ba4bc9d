#!/usr/bin/env bash
# lerobot 0.4.4: its rates of Feetech's STS servos differ from the maker's for registers 5 to 7
#
# LeRobot's table says that baud register 5 is 57600, 6 is 38400 and 7 is 19200. Feetech's own SDK,
# ftservo-python-sdk 2.0.1, says 76800, 57600 and 38400. A program that sets a servo to 57600 by
# LeRobot's table and goes on at that rate loses a servo that does what its maker says.
# Seen on Python 3.11:
#     register 5: lerobot 57600, ftservo-python-sdk 76800
#     register 6: lerobot 38400, ftservo-python-sdk 57600
#     register 7: lerobot 19200, ftservo-python-sdk 38400
# The rates from 1000000 to 115200, registers 0 to 4, are the same in both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps \
    lerobot==0.4.4 ftservo-python-sdk==2.0.1 pyserial==3.5
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import importlib.util
import sysconfig
from pathlib import Path

import scservo_sdk as maker

place = Path(sysconfig.get_path("purelib"), "lerobot/motors/feetech/tables.py")
spec = importlib.util.spec_from_file_location("tables", place)  # without lerobot's dependencies
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)
lerobot = {number: rate for rate, number in tables.STS_SMS_SERIES_BAUDRATE_TABLE.items()}
made = {
    maker.SMS_STS_1M: 1_000_000,
    maker.SMS_STS_0_5M: 500_000,
    maker.SMS_STS_250K: 250_000,
    maker.SMS_STS_128K: 128_000,
    maker.SMS_STS_115200: 115_200,
    maker.SMS_STS_76800: 76_800,
    maker.SMS_STS_57600: 57_600,
    maker.SMS_STS_38400: 38_400,
}
for number, rate in made.items():
    if lerobot[number] != rate:
        print(f"register {number}: lerobot {lerobot[number]}, ftservo-python-sdk {rate}")
PYTHON
diff "$folder/seen" - <<'SEEN'
register 5: lerobot 57600, ftservo-python-sdk 76800
register 6: lerobot 38400, ftservo-python-sdk 57600
register 7: lerobot 19200, ftservo-python-sdk 38400
SEEN
