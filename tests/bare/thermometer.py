"""The device of a person's first hour: a thermometer on a pseudo-terminal, at /tmp/thermometer.

`02 54` asks; the reply is `54 2E`, a count (u16), hundredths of a degree (i16) and a CRC-16 of
polynomial 0x8005 (initial value 0, not reflected), low bytes first. It imports nothing of inphase.
"""

import os
import tty
from pathlib import Path

PORT = Path("/tmp/thermometer")
REQUEST, START = b"\x02\x54", b"\x54\x2e"


def crc16(data: bytes) -> int:
    """Bit by bit."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def main() -> None:
    """Answer for ever."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    PORT.symlink_to(os.ttyname(theirs))
    heard, count = b"", 0
    while True:
        heard += os.read(ours, 256)
        while REQUEST in heard:
            heard = heard.partition(REQUEST)[2]
            count = (count + 1) % 65_536
            hundredths = 2150 + count % 100
            body = (
                START + count.to_bytes(2, "little") + hundredths.to_bytes(2, "little", signed=True)
            )
            os.write(ours, body + crc16(body).to_bytes(2, "little"))


if __name__ == "__main__":
    main()
