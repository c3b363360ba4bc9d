"""Example, a torque gauge that is asked by Modbus RTU: function 4, four input registers."""

from inphase import driver
from inphase.driver import Raw, Value
from inphase.packets import checksum
from inphase.serial_sensor import SerialSensor

CRC = "CRC-16/MODBUS"
REQUEST = bytes([1, 4, 0, 0, 0, 4])  # unit 1, read input registers, from 0 on, 4 of them
CHECKS = (
    driver.Check(driver.CheckKind.MATCH, 0, expect=1),
    driver.Check(driver.CheckKind.CHECKSUM, -2, checksum=CRC),
    driver.Check(driver.CheckKind.ZERO, 1, mask=0x80, number=2),  # an exception, told by its code
)


class ModbusGauge(SerialSensor):
    """Gauge: `torque` in N m and `temperature` in degC."""

    def sensor(self) -> driver.SensorSpec:
        """Unit, 4, 8, two f32 (high bytes first), CRC; or unit, 84h, exception code, CRC."""
        char_ns = self.options.char_ns
        idle_ns = max(1_750_000, 35 * char_ns // 10)  # ends a packet, a request too
        numbers = tuple(Value(3 + 4 * n, Raw.F32, n, big_endian=True) for n in range(2))
        return driver.SensorSpec(
            fields=(driver.Field("torque", "N m"), driver.Field("temperature", "degC")),
            exchange=driver.Exchange(
                request=REQUEST + checksum(CRC, REQUEST).to_bytes(2, "little"),
                framing=driver.Framing(min_size=5, max_size=13, idle_ns=idle_ns),
                replies=(driver.Reply(numbers, CHECKS),),
                request_ns=8 * char_ns,
                reply_ns=idle_ns + 13 * char_ns,
                reply_max_ns=idle_ns + 21 * char_ns + 5_000_000,
                acquire=driver.Acquire.AFTER_TRIGGER,
                acquire_ns=8 * char_ns,  # it measures when the request has come
            ),
            twin=(driver.TwinChannel(noise=0.002), driver.TwinChannel(base=25.0, noise=0.01)),
            twin_latency_ns=idle_ns + 21 * char_ns,
        )
