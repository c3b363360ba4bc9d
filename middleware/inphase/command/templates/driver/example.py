"""Example, a range finder on a serial port: three bytes ask for one distance."""

from inphase import driver
from inphase.driver import Raw
from inphase.serial_sensor import SerialSensor


class Example(SerialSensor):
    """Range finder: `distance` in m."""

    def sensor(self) -> driver.SensorSpec:
        """The reply is AA 55, count (u16), millimetres (u16), CRC-16; low bytes first."""
        exchange = driver.Exchange(
            request=b"\x55\xaa\x01",
            framing=driver.Framing(min_size=8, max_size=8, start=b"\xaa\x55"),
            replies=(
                driver.Reply(
                    values=(driver.Value(offset=4, type=Raw.U16, channel=0, scale=0.001),),
                    checks=(driver.Check(driver.CheckKind.CHECKSUM, -2, checksum="CRC-16/UMTS"),),
                ),
            ),
            sequence=driver.Value(offset=2, type=Raw.U16, channel=0),
            request_ns=260_000,  # 3 bytes at 115200 baud
            reply_ns=1_700_000,  # the device measures for 1 ms, then 8 bytes
            reply_max_ns=6_000_000,
            reply_min_ns=1_500_000,  # sooner than that it answers an earlier request
            acquire=driver.Acquire.AFTER_TRIGGER,
            acquire_ns=760_000,  # the middle of that 1 ms
        )
        return driver.SensorSpec(
            fields=(driver.Field("distance", "m"),),
            exchange=exchange,
            twin=(driver.TwinChannel(base=1.0, noise=0.002),),
            twin_latency_ns=2_000_000,
        )
