"""Example, an IMU that streams: 1000 packets a second, with its own clock and a CRC."""

import math

from inphase import driver
from inphase.driver import Raw, Value
from inphase.serial_sensor import SerialSensor

RAD_S, M_S2 = math.radians(1 / 16.4), 9.80665 / 4096  # per count, at 2000 deg/s and 8 g
CRC = driver.Check(driver.CheckKind.CHECKSUM, -2, checksum="CRC-16/CCITT-FALSE", big_endian=True)


class StreamingImu(SerialSensor):
    """IMU: `gyro` in rad/s and `accel` in m/s^2, three axes each."""

    def sensor(self) -> driver.SensorSpec:
        """AA 55, count (u16), time (u32, us), gyro and accel (6 i16), CRC; high bytes first."""
        scales = [RAD_S] * 3 + [M_S2] * 3
        axes = tuple(Value(8 + 2 * n, Raw.I16, n, s, big_endian=True) for n, s in enumerate(scales))
        return driver.SensorSpec(
            fields=(driver.Field("gyro", "rad/s", (3,)), driver.Field("accel", "m/s^2", (3,))),
            exchange=driver.Exchange(
                request=b"",  # it is never asked
                framing=driver.Framing(min_size=22, max_size=22, start=b"\xaa\x55"),
                replies=(driver.Reply(axes, (CRC,)),),
                sequence=Value(2, Raw.U16, 0, big_endian=True),
                clock=driver.Clock(4, Raw.U32, tick_ns=1_000, bits=32, big_endian=True),
                interval_ns=1_000_000,
                request_ns=0,
                reply_ns=450_000,  # usual: from the acquisition to the last byte, at 921600 baud
                reply_min_ns=240_000,  # 22 bytes
                reply_max_ns=5_000_000,  # a USB adapter that is held up
            ),
            twin=tuple(driver.TwinChannel(noise=scale) for scale in scales),
            twin_latency_ns=450_000,
        )
