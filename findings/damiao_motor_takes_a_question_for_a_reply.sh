#!/usr/bin/env bash
# damiao-motor 1.0.6: another program's question for a register is taken for the motor's reply
#
# A question for a register of a Damiao motor and the reply to it begin with the same four bytes; the
# question goes to id 0x7FF, and the reply comes under the motor's feedback id. DaMiaoController sorts
# frames by their data alone. So the question of another program on the bus, whose value is 0, becomes
# the register's value. The same happens with its own questions on a bus that echoes them, such as
# python-can's udp_multicast.
# Seen on Python 3.11 (python-can's virtual bus, two stations, no motor at all):
#     before: TimeoutError
#     after another station asked: 0.0
# Look at the id of a frame: a reply has the one of register 7.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet damiao-motor==1.0.6 python-can==4.6.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON' | tee "$folder/seen"
import time

import can
import damiao_motor

P_MAX = 21
controller = damiao_motor.DaMiaoController(channel="bench", bustype="virtual")
other = can.Bus(interface="virtual", channel="bench")
motor = controller.add_motor(1, 17, "4310")
try:
    print(f"before: {motor.get_register(P_MAX, timeout=0.3)}")
except TimeoutError:
    print("before: TimeoutError")
question = bytes([1, 0, 0x33, P_MAX, 0, 0, 0, 0])
other.send(can.Message(arbitration_id=0x7FF, is_extended_id=False, data=question))
end = time.monotonic() + 10
while P_MAX not in motor.registers and time.monotonic() < end:
    time.sleep(0.01)
print(f"after another station asked: {motor.registers.get(P_MAX)}")
controller.shutdown()
other.shutdown()
PYTHON
diff "$folder/seen" - <<'SEEN'
before: TimeoutError
after another station asked: 0.0
SEEN
