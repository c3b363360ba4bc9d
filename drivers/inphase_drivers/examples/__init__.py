"""Examples of declared drivers: a device that streams, and one that is asked by Modbus RTU."""

from .gauge import ModbusGauge
from .imu import StreamingImu

__all__ = ["ModbusGauge", "StreamingImu"]
