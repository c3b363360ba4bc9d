"""A serial port for drivers with an exchange: opened and set up as the core needs it."""

import os
import select
import termios
import time
from abc import abstractmethod
from typing import Annotated, Any, ClassVar

import msgspec
import serial
from msgspec import Meta

from inphase.driver import DeviceError, Driver, SensorSpec
from inphase.packets import Parser, RefusedReply

_ANSWER_S = 0.3
_TRIES = 3
_READ_MAX = 4096


class SerialPort:
    """One port of one device. Its errors name both. Thread: the driver's."""

    def __init__(self, device: str, port: str, baud: int) -> None:
        self._device = device
        self._port = port
        self._baud = baud
        self._serial: serial.Serial | None = None

    @property
    def address(self) -> str:
        """The port's path, links resolved: what no two runtimes may use at once."""
        return os.path.realpath(self._port)

    def open(self, spec: SensorSpec) -> int:
        """Open it, and see that the device which `spec` describes answers there.

        Returns the descriptor, as `Driver.open` does. Raises DeviceError.
        """
        try:
            self._serial = serial.Serial(self._port, self._baud, exclusive=True)
            fd = int(self._serial.fileno())
            self._set_up(fd)
        except (serial.SerialException, OSError, ValueError, termios.error) as error:
            self.close()
            raise DeviceError(
                f"device {self._device}: cannot open {self._port}: {error}; is it plugged in, and "
                f"is no other program using it?"
            ) from error
        try:
            self._find(fd, spec)
        except BaseException:
            self.close()
            raise
        return fd

    def _set_up(self, fd: int) -> None:
        """Bytes at once, no waiting, and a hang-up that can be told from silence.

        VMIN 1: a read of an empty line fails with EAGAIN, so that 0 bytes mean a hang-up. pyserial
        sets VMIN 0, with which both read as 0 bytes (termios(3), polling read).
        """
        assert self._serial is not None
        settings = termios.tcgetattr(fd)
        settings[6][termios.VMIN] = 1
        termios.tcsetattr(fd, termios.TCSANOW, settings)
        os.set_blocking(fd, False)
        # a pseudo-terminal has no such flag; an FTDI adapter would hold replies back for 16 ms
        if not os.ttyname(fd).startswith("/dev/pts/"):
            self._serial.set_low_latency_mode(True)

    def _find(self, fd: int, spec: SensorSpec) -> None:
        """Exchange once. Raises DeviceError."""
        trouble = "no answer"
        for _ in range(_TRIES):
            try:
                if self._exchange(fd, spec):
                    return
            except RefusedReply as refused:
                trouble = f"{refused.reason} ({refused.detail}) in its reply"
            except OSError as error:
                trouble = str(error)
        raise DeviceError(
            f"device {self._device}: {self._port} at {self._baud} baud: {trouble}; is it the right "
            f"device, is it powered, and is this its baud rate?"
        )

    def _exchange(self, fd: int, spec: SensorSpec) -> bool:
        """Whether a whole reply came in time."""
        assert spec.exchange is not None
        parser = Parser(spec.exchange, len(spec.twin))
        termios.tcflush(fd, termios.TCIFLUSH)
        os.write(fd, spec.exchange.request)
        until = time.monotonic() + _ANSWER_S
        while (left := until - time.monotonic()) > 0:
            if not select.select([fd], [], [], left)[0]:
                break
            data = os.read(fd, _READ_MAX)
            if not data:
                raise OSError("it hung up")
            if parser.feed(data) is not None:
                return True
        return False

    def close(self) -> None:
        """Close it; always callable."""
        if self._serial is not None:
            self._serial.close()
            self._serial = None


class SerialOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with such a driver."""

    port: str
    baud: Annotated[int, Meta(ge=300, le=12_000_000)] = 115_200


class SerialSensor(Driver):
    """A sensor that is one exchange on a serial port: a subclass says `sensor`, and that is all.

    With more keys than port and baud, its `Options` inherit from SerialOptions.
    """

    Options: ClassVar[type[msgspec.Struct]] = SerialOptions

    def __init__(self, name: str, options: Any) -> None:
        super().__init__(name, options)
        self._port = SerialPort(name, options.port, options.baud)

    @property
    def address(self) -> str:
        """The port's path, links resolved."""
        return self._port.address

    @abstractmethod
    def sensor(self) -> SensorSpec:
        """The sensor, with its exchange."""

    def open(self) -> int:
        """Open the port, and see that the device answers there."""
        return self._port.open(self.sensor())

    def close(self) -> None:
        """Close the port."""
        self._port.close()
