"""The two ways in which a worker has a sample: the driver's own calls, or its declared exchange.

Both give a worker the same four calls, so that a driver with an exchange runs in every home.
"""

import errno
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from inphase.devices import packets
from inphase.devices.device_clock import Wrapping
from inphase.driver import Driver, Encoding, Exchange, Raw, Reading
from inphase.errors import DeviceError
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.plan.sensor_plan import SensorPlan
from inphase.runtime.gpio import Line

_READ_BYTES = 4096
_WIDTH = {Raw.U8: 8, Raw.I8: 8, Raw.U16: 16, Raw.I16: 16, Raw.U64: 64}  # bits; else 32
_FLUSH_READS = 64  # a line that babbles is not read for ever
_Reply = list[float] | packets.RefusedReply


class SampleSource(Protocol):
    """The calls of a worker. All raise DeviceError when the device is gone."""

    latency_max_ns: int
    """what has not come so long after its trigger is lost"""

    @property
    def number(self) -> int | None:
        """The device's number of the last sample, which rises but pairs nothing; None: none."""

    @property
    def part(self) -> int:
        """Bytes of a reply that is not whole yet; 0 where silence will say so."""

    @property
    def passed(self) -> int:
        """Samples of a device that runs by itself that came and are not handed on, so far."""

    def learn(self, sensor: SensorPlan, actuator: ActuatorPlan | None) -> None:
        """Take the scales that the open device gave."""

    def opened(self, descriptor: int) -> None:
        """The driver was opened, and gave this descriptor."""

    def flush(self) -> int:
        """Throw away what is left over; how many samples that was."""

    def trigger(self) -> None:
        """Make the device sample now."""

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the next sample and fill it in. Raises TimeoutError."""

    def write(self, command: NDArray[np.float64]) -> None:
        """Send a command."""

    def halt(self, command: NDArray[np.float64]) -> None:
        """Bring to rest a device that was away."""


class OwnCalls:
    """The driver's own trigger, read and write, with the schedule's signs and zeros."""

    number: int | None = None
    part = 0

    def __init__(self, driver: Driver, sensor: SensorPlan, actuator: ActuatorPlan | None) -> None:
        assert sensor.spec.calls is not None
        self._calls = sensor.spec.calls
        self.latency_max_ns = self._calls.latency_max_ns
        self._count = Wrapping(self._calls.sequence_bits)
        self._ticks = Wrapping(self._calls.clock_bits)
        self._driver = driver
        self.flush = driver.flush
        self.trigger = driver.trigger
        self._read = driver.read
        self._write = driver.write
        self._halt = driver.halt
        self._turns = _turns_by_field(sensor)
        self._command = np.array(actuator.turns if actuator else [(1, 0.0)])

    @property
    def passed(self) -> int:
        """As the driver counts."""
        return self._driver.passed

    def learn(self, sensor: SensorPlan, actuator: ActuatorPlan | None) -> None:
        """Nothing: the driver gives values in SI."""

    def opened(self, descriptor: int) -> None:
        """The driver has its own connection; its numbers may begin anywhere."""
        self._count.restart()
        self._ticks.restart()

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Read, go on with the device's numbers, and turn the float64 fields: sign * SI - zero."""
        reading = self._followed(self._read(sample, timeout_ns))
        for name, sign, zero in self._turns:
            sample[name] = sign * sample[name] - zero
        return reading

    def _followed(self, reading: Reading) -> Reading:
        """Its numbers gone on with where they wrap. Those of a refused sample may be anything."""
        if reading.reason:
            return reading._replace(device_ticks=None)
        if reading.sequence is not None:
            reading = reading._replace(sequence=self._count.step(reading.sequence))
        if reading.device_ticks is not None and self._calls.clock_tick_ns:
            ticks = self._ticks.rise(reading.device_ticks)
            device_ns = round(ticks * self._calls.clock_tick_ns) + self._calls.clock_shift_ns
            reading = reading._replace(device_ns=device_ns)
        return reading

    def write(self, command: NDArray[np.float64]) -> None:
        """Undo the turn, then write."""
        self._write(self._turned(command))

    def halt(self, command: NDArray[np.float64]) -> None:
        """Undo the turn, then halt."""
        self._halt(self._turned(command))

    def _turned(self, command: NDArray[np.float64]) -> NDArray[np.float64]:
        turned: NDArray[np.float64] = (command + self._command[:, 1]) * self._command[:, 0]
        return turned


def _turns_by_field(
    sensor: SensorPlan,
) -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """Sign and zero of each float64 field that has any, in the field's shape."""
    found = []
    at = 0
    for item in sensor.spec.fields:
        if item.dtype != "<f8":
            continue
        turns = np.array(sensor.turns[at : at + item.channels])
        at += item.channels
        if (turns != (1, 0)).any():
            sign, zero = (turns[:, i].reshape(item.shape) for i in (0, 1))
            found.append((item.name, sign, zero))
    return found


class OwnExchange:
    """A declared exchange, run over the driver's descriptor as the core would run it."""

    def __init__(
        self, driver: Driver, exchange: Exchange, channels: int, encoding: Encoding | None
    ) -> None:
        self.latency_max_ns = exchange.worst_ns
        self._name = f"device {driver.name} ({driver.address})"
        self._request = exchange.request
        self._request_chunk = exchange.request_chunk or len(exchange.request) or 1
        self._datagram = exchange.framing.datagram
        self._can = exchange.framing.can
        self._whole = self._datagram or self._can  # a read is a packet, and nothing is behind it
        self._encoding = encoding
        self._parser = packets.Parser(exchange, channels)
        self._ends_by_silence = exchange.framing.idle_ns > 0
        self._received_ns = 0  # of the last bytes
        self._clock = exchange.clock
        self._ticks = Wrapping(self._clock.bits if self._clock is not None else 0)
        counts = exchange.sequence
        self._count = Wrapping(_WIDTH.get(counts.type, 32)) if counts is not None else None
        self.part = 0
        self.passed = 0
        self._channels = channels
        self._fd = -1
        self._poll = select.poll()

    def learn(self, sensor: SensorPlan, actuator: ActuatorPlan | None) -> None:
        """Parse and encode by the open device's scales."""
        assert sensor.exchange is not None
        self._parser = packets.Parser(sensor.exchange, self._channels)
        self._encoding = actuator.encoding if actuator is not None else None

    def opened(self, descriptor: int) -> None:
        """Use this descriptor from now on."""
        self._fd = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._parser.reset()
        self._parser.forgive()
        self._ticks.restart()
        if self._count is not None:
            self._count.restart()

    @property
    def number(self) -> int | None:
        """The device's count in the last reply, which goes on where it wraps."""
        return self._count.value if self._count is not None else None

    def flush(self) -> int:
        """Drain the line; how many replies were there. A part of one counts as one."""
        found = self._feed_all(b"")
        some = self._parser.idle_ns is not None
        for data in self._all_there_is():
            answered = self._parser.answered
            found += self._feed_all(data)
            some = some or self._parser.held > 0 or self._parser.answered == answered
        self._parser.reset()
        self._parser.forgive(1)
        self.part = 0
        return len(found) or int(some)

    def _all_there_is(self) -> Iterator[bytes]:
        """The bytes that the line gives without waiting."""
        for _ in range(_FLUSH_READS):
            data = self._receive()
            if not data:
                return
            yield data

    def _feed_all(self, data: bytes) -> list[_Reply]:
        """Every reply that these bytes complete, in order, refused ones too."""
        found = []
        reply = self._feed(data)
        while reply is not None:
            found.append(reply)
            reply = self._feed(b"")
        return found

    def _feed(self, data: bytes) -> _Reply | None:
        """The first of them; no bytes: the next one, of what is there already."""
        if not data and self._whole:
            return None
        return self._take(lambda: self._parser.feed(data))

    def _take(self, parse: Callable[[], list[float] | None]) -> _Reply | None:
        """The result of a call of the parser, noted."""
        try:
            values = parse()
        except packets.RefusedReply as refused:
            return refused
        if values is not None:
            if self._count is not None:
                self._count.step(self._parser.sequence)
            self._ticks.rise(self._parser.clock)
        return values

    def trigger(self) -> None:
        """Write the request, where there is one."""
        self.part = 0
        self._send_chunks(self._request, self._request_chunk)

    def _send_chunks(self, data: bytes, size: int) -> None:
        for at in range(0, len(data), size):
            self._send(data[at : at + size])

    def _send(self, data: bytes) -> None:
        try:
            os.write(self._fd, data)
        except OSError as error:
            # a full queue: the line does not move, and no reply will come
            if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
                raise DeviceError(f"{self._name}: {error.strerror}") from error

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the whole reply; of a device that runs by itself for the newest there is."""
        until_ns = time.monotonic_ns() + timeout_ns
        found = self._feed(b"")
        while found is None:
            left_ns, idle_ns = max(0, until_ns - time.monotonic_ns()), self._parser.idle_ns
            wait_ns = left_ns if idle_ns is None else min(left_ns, idle_ns)
            if self._poll.poll(wait_ns / 1e6):
                data = self._receive()
                self._received_ns = time.monotonic_ns()
                self.part += 0 if self._ends_by_silence else len(data)
                found = self._feed(data) if data else None
            elif wait_ns == idle_ns:
                found = self._take(self._parser.end)
            else:
                raise TimeoutError
        if not self._request:
            found = self._newest(found)
        self.part = 0
        if isinstance(found, packets.RefusedReply):
            return Reading(reason=found.reason, detail=found.detail)
        sample.reshape(1).view(np.float64)[: self._channels] = found
        # silence behind a packet is no part of it
        received_ns = self._received_ns if self._ends_by_silence else None
        return Reading(device_ns=self._device_ns(), received_ns=received_ns)

    def _newest(self, found: _Reply) -> _Reply:
        """The last good one of this and all that are there: one never waits behind another."""
        later = self._feed_all(b"")
        for data in self._all_there_is():
            later += self._feed_all(data)
        for reply in later:
            if not isinstance(reply, packets.RefusedReply):
                self.passed += not isinstance(found, packets.RefusedReply)
                found = reply
        return found

    def _device_ns(self) -> int | None:
        """The middle of the acquisition by the device's clock."""
        if self._clock is None or self._ticks.value is None:
            return None
        return round(self._ticks.value * self._clock.tick_ns) + self._clock.shift_ns

    def _receive(self) -> bytes:
        """The bytes that are there, past other traffic on a CAN bus. Raises DeviceError at its
        end."""
        for _ in range(_FLUSH_READS):
            try:
                data = os.read(self._fd, _READ_BYTES)
                if not data and not self._datagram:
                    raise DeviceError(f"{self._name}: the other end of the line is gone")
                if not self._can or self._parser.wants(data):
                    return data
            except BlockingIOError:
                return b""
            except OSError as error:
                raise DeviceError(f"{self._name}: {error.strerror}") from error
        return b""

    def write(self, command: NDArray[np.float64]) -> None:
        """Encode and write."""
        assert self._encoding is not None
        data = packets.encode(self._encoding, command.tolist())
        self._parser.owe()
        self._send_chunks(data, self._encoding.chunk or len(data))

    halt = write


class OnALine:
    """A caller whose trigger is a GPIO line, up until its sample is read, before a request.

    The driver's own `trigger` is not called: the device is set up for its hardware trigger.
    """

    def __init__(self, caller: OwnCalls | OwnExchange, line: Line) -> None:
        self.latency_max_ns = caller.latency_max_ns
        self.learn = caller.learn
        self.opened = caller.opened
        self.flush = caller.flush
        self.write = caller.write
        self.halt = caller.halt
        self._request = caller.trigger if isinstance(caller, OwnExchange) else None
        self._caller = caller
        self._read = caller.read
        self._line = line

    @property
    def number(self) -> int | None:
        """As the caller says."""
        return self._caller.number

    @property
    def part(self) -> int:
        """As the caller says."""
        return self._caller.part

    passed = 0

    def trigger(self) -> None:
        """Raise the line."""
        self._line.set(True)
        if self._request is not None:
            self._request()

    def read(self, sample: NDArray[Any], timeout_ns: int) -> Reading:
        """Wait for the next sample, then lower the line."""
        try:
            return self._read(sample, timeout_ns)
        finally:
            self._line.set(False)


def caller_of(driver: Driver, sensor: SensorPlan, actuator: ActuatorPlan | None) -> SampleSource:
    """How this device is called in a worker: by its own calls where it has them.

    Raises DeviceError where a trigger line cannot be had.
    """
    caller = _caller_of(driver, sensor, actuator)
    line = sensor.schedule.trigger_line
    return caller if line is None else OnALine(caller, Line(sensor.name, line))


def _caller_of(
    driver: Driver, sensor: SensorPlan, actuator: ActuatorPlan | None
) -> OwnCalls | OwnExchange:
    if sensor.spec.calls is not None:
        return OwnCalls(driver, sensor, actuator)
    assert sensor.exchange is not None
    encoding = actuator.encoding if actuator is not None else None
    return OwnExchange(driver, sensor.exchange, len(sensor.offsets), encoding)
