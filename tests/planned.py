"""Drivers whose twins stand for every kind of sensor; nothing is behind them on the wall clock."""

from typing import ClassVar, Literal

import msgspec

from inphase.driver import (
    Acquire,
    ActuatorSpec,
    Calls,
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
    TwinKind,
    Value,
    Watchdog,
)

CHANNELS = 2


class PlannedOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Microseconds; `calls` is a device in a worker, `free_us` one that runs by itself."""

    kind: Literal["exchange", "calls", "free"] = "exchange"
    takes_us: int = 300
    jitter_us: int = 0
    worst_us: int = 500
    free_us: int = 0
    counted: bool = True
    acquire: Literal["absent", "after", "middle"] = "after"
    moves: bool = False
    watchdog_ms: int = 0
    noise: float = 0.001


class Planned(Driver):
    """Two channels: those of its own joints where it moves, else constants; with noise."""

    Options: ClassVar[type[msgspec.Struct]] = PlannedOptions
    options: PlannedOptions

    @property
    def address(self) -> str:
        return f"planned:{self.name}"

    def open(self) -> int:
        return -1

    def close(self) -> None:
        return

    def sensor(self) -> SensorSpec:
        given = self.options
        model = {
            "absent": Acquire.ABSENT,
            "after": Acquire.AFTER_TRIGGER,
            "middle": Acquire.MIDDLE,
        }[given.acquire]
        acquire_ns = 20_000 if given.acquire == "after" else 0
        exchange = calls = None
        if given.kind == "exchange":
            exchange = Exchange(
                request=b"?",
                framing=Framing(16, 16, datagram=True),
                replies=(Reply(tuple(Value(4 * c, Raw.F32, c) for c in range(CHANNELS))),),
                request_ns=10_000,
                reply_ns=(given.takes_us + given.jitter_us) * 1000 - 10_000,
                reply_max_ns=given.worst_us * 1000,
                sequence=Value(12, Raw.U32, 0) if given.counted else None,
                acquire=model,
                acquire_ns=acquire_ns,
            )
        else:
            calls = Calls(
                latency_ns=(given.takes_us + given.jitter_us) * 1000,
                latency_max_ns=given.worst_us * 1000,
                triggered=given.kind == "calls",
                interval_ns=given.free_us * 1000,
                acquire=model,
                acquire_ns=acquire_ns,
            )
        kind = TwinKind.POSITION if given.moves else TwinKind.CONSTANT
        return SensorSpec(
            fields=(Field("x", "rad", (CHANNELS,)),),
            twin=tuple(TwinChannel(kind, joint=c, noise=given.noise) for c in range(CHANNELS)),
            twin_latency_ns=given.takes_us * 1000,
            twin_jitter_ns=given.jitter_us * 1000,
            exchange=exchange,
            calls=calls,
        )

    def actuator(self) -> ActuatorSpec | None:
        given = self.options
        if not given.moves:
            return None
        encoding = Encoding(
            packet=bytes(4 * CHANNELS),
            values=tuple(Value(4 * c, Raw.F32, c) for c in range(CHANNELS)),
            framing=Framing(4 * CHANNELS, 4 * CHANNELS, datagram=True),
            write_ns=50_000,
        )
        watchdog = Watchdog(given.watchdog_ms * 1_000_000) if given.watchdog_ms else None
        return ActuatorSpec(
            channels=CHANNELS,
            unit="rad",
            servos=(Servo(),) * CHANNELS,
            encoding=encoding if given.kind == "exchange" else None,
            watchdog=watchdog,
        )
