"""A driver whose times are what its device table says; nothing is behind it."""

from typing import ClassVar

import msgspec

from inphase.driver import (
    Acquire,
    ActuatorSpec,
    Calls,
    Clock,
    Driver,
    Encoding,
    Exchange,
    Field,
    Framing,
    Raw,
    Reply,
    SensorSpec,
    Servo,
    TwinChannel,
    Value,
)


class TimedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Microseconds, or as named; with `request_us` an exchange, else calls."""

    place: str
    takes_us: int = 300
    worst_us: int = 500
    request_us: int = 0
    write_us: int = 0
    acquire_us: int | None = None
    acquire_ns: int = 0
    interval_us: int = 0
    triggered: bool = True
    wire: str | None = None
    ticks: bool = False
    """its replies carry its own time, in microseconds"""


class Timed(Driver):
    """One channel."""

    Options: ClassVar[type[msgspec.Struct]] = TimedOptions
    options: TimedOptions

    @property
    def address(self) -> str:
        return self.options.place

    @property
    def bus(self) -> str:
        return self.options.wire or self.address

    def open(self) -> int:
        return -1

    def close(self) -> None:
        return

    def sensor(self) -> SensorSpec:
        given = self.options
        acquire = Acquire.ABSENT if given.acquire_us is None else Acquire.AFTER_TRIGGER
        acquire_ns = (given.acquire_us or 0) * 1000 + given.acquire_ns
        exchange = calls = None
        if given.request_us:
            exchange = Exchange(
                request=b"?",
                framing=Framing(8, 8, datagram=True),
                replies=(Reply((Value(0, Raw.F64, 0),)),),
                request_ns=given.request_us * 1000,
                reply_ns=(given.takes_us - given.request_us) * 1000,
                reply_max_ns=given.worst_us * 1000,
                acquire=acquire,
                acquire_ns=acquire_ns,
                clock=Clock(0, Raw.U32, 1000.0, bits=32) if given.ticks else None,
            )
        else:
            calls = Calls(
                latency_ns=given.takes_us * 1000,
                latency_max_ns=given.worst_us * 1000,
                triggered=given.triggered,
                interval_ns=given.interval_us * 1000,
                acquire=acquire,
                acquire_ns=acquire_ns,
            )
        return SensorSpec(
            fields=(Field("x", "m", (1,)),),
            twin=(TwinChannel(),),
            twin_latency_ns=1000,
            exchange=exchange,
            calls=calls,
        )

    def actuator(self) -> ActuatorSpec | None:
        if not self.options.write_us:
            return None
        encoding = Encoding(
            packet=bytes(8),
            values=(Value(0, Raw.F64, 0),),
            framing=Framing(8, 8, datagram=True),
            write_ns=self.options.write_us * 1000,
        )
        return ActuatorSpec(channels=1, unit="m", servos=(Servo(),), encoding=encoding)
