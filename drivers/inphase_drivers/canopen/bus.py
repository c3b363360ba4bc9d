"""A CAN bus through python-can, in one thread: frames, their stamps, heartbeat, expedited SDO.

No thread of python-can or of another library runs here. The caller of `receive` receives the
frames, and the heartbeat goes out only while somebody calls. A driver whose loop has stopped
therefore falls silent, and the drives notice. The one exception, `hand_over`, is bounded.
"""

import contextlib
import select
import struct
import termios
import time
from collections.abc import Callable
from typing import NamedTuple

import can

from inphase.driver import DeviceError
from inphase.serial_port import keep_others_out, missing_right

from .objects import HEARTBEAT, OPERATIONAL, SDO_REPLY, SDO_REQUEST, Entry

# interfaces whose stamps are CLOCK_REALTIME at the frame's arrival: the kernel's SO_TIMESTAMPNS,
# or for "virtual" the instant at which the sender put the frame into the queue. slcan's stamp is
# made when Python has read the line, which says no more than the return of `receive`.
_STAMPED_BY_ARRIVAL = ("socketcan", "udp_multicast", "virtual")
_ECHOES = ("udp_multicast",)  # whoever sends receives it, too
_STAMP_AGE_MAX_NS = 1_000_000_000
_STAMP_GRAIN_NS = 500  # python-can hands the stamp on as a float of seconds

_SEND_S = 1.0  # generous: pyserial also counts the time that its own process was not running
_SDO_NS = 300_000_000
_SDO_TRIES = 3
_GARBAGE_MAX = 1000  # unreadable frames in one wait, after which the bus counts as broken
_ERROR_BUS_OFF = 0x40  # linux/can/error.h, CAN_ERR_BUSOFF
_GONE = (OSError, termios.error)  # pyserial's own exception is an OSError

_HEAD = struct.Struct("<BHB")  # SDO: command, index, sub-index (CiA 301, 7.2.4.3)
_ABORT_TEXTS = {
    0x05040000: "SDO protocol timed out",
    0x06010001: "it is write only",
    0x06010002: "it is read only",
    0x06020000: "it does not exist",
    0x06040041: "it cannot be mapped to a PDO",
    0x06040042: "the mapping is too long",
    0x06070010: "its size is another",
    0x06090011: "its sub-index does not exist",
    0x06090030: "the value is out of range",
    0x08000022: "not in this device state",
}


class Frame(NamedTuple):
    """One received frame; `stamp_s` is python-can's, of a clock that depends on the interface."""

    id: int
    data: bytes
    stamp_s: float


class SdoRefusedError(Exception):
    """A node answered with an SDO abort (CiA 301, 7.2.4.3.17)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"abort code 0x{code:08X}, {_ABORT_TEXTS.get(code, 'see CiA 301')}")
        self.code = code

    @property
    def absent(self) -> bool:
        """True if the object or its sub-index does not exist."""
        return self.code in (0x06020000, 0x06090011)


class Bus:
    """One open CAN bus. Thread: one at a time. `heard` gets each frame that no SDO waited for."""

    def __init__(
        self, device: str, arguments: dict[str, object], heard: Callable[[Frame], None]
    ) -> None:
        self.where = f"{arguments['interface']}:{arguments['channel']}"
        self.garbage = 0
        """what came and was no CAN frame"""
        self.errors = 0
        """error frames of the controller"""
        self._device = device
        self._interface = arguments["interface"]
        self._heard = heard
        self.silence_ns = 0
        """the longest time without our heartbeat since it was started"""
        self._beat_id = self._beat_ns = self._beat_due_ns = self._beaten_ns = 0
        self._handed_over_ns = 0
        self._commanded = False
        self._handing_over: can.CyclicSendTaskABC | None = None
        self._beats = self._timed_beats = 0  # sent by calls, and by the timer of `hand_over`
        self._echoed = 0
        self._is_kernels = False  # the timer of `hand_over` is, or was
        try:
            self._bus = can.Bus(ignore_config=True, **arguments)  # type: ignore[arg-type]
        except (can.CanError, *_GONE, ValueError, TypeError, ImportError) as error:
            hint = "is it plugged in and up, and are interface, channel and bitrate right?"
            if self._interface == "udp_multicast":
                hint = (
                    f"does a network interface of this computer carry multicast to it? "
                    f"sudo ip route add {arguments['channel']} dev lo"
                )
            elif self._interface == "slcan":
                hint = missing_right(str(arguments["channel"]).partition("@")[0]) or hint
            raise DeviceError(
                f"device {device}: cannot open CAN bus {self.where}: {error}; {hint}"
            ) from error
        # python-can's slcan takes its port from nobody
        port = getattr(self._bus, "serialPortOrig", None)
        if port is not None:
            with contextlib.suppress(*_GONE):
                keep_others_out(port.fileno())
        try:
            self._fd = self._bus.fileno()
        except NotImplementedError:
            self._fd = -1  # this interface waits by itself

    def listen_only_to(self, identifiers: list[int]) -> None:
        """Let the kernel leave out other frames, where it can; elsewhere the caller does."""
        if self._interface == "socketcan":
            self._bus.set_filters(
                [{"can_id": one, "can_mask": 0x7FF, "extended": False} for one in identifiers]
            )

    def close(self) -> None:
        """Close; a bus that is gone is closed as well."""
        try:
            self._bus.shutdown()
        except (can.CanError, *_GONE):
            # python-can's slcan says goodbye first, and leaves the port open where nobody hears it
            port = getattr(self._bus, "serialPortOrig", None)
            if port is not None:
                with contextlib.suppress(*_GONE):
                    port.close()

    # ---- frames --------------------------------------------------------------------------

    def send(self, identifier: int, data: bytes) -> None:
        """Send one frame. Raises DeviceError."""
        message = can.Message(arbitration_id=identifier, is_extended_id=False, data=data)
        try:
            self._bus.send(message, timeout=_SEND_S)
        except (can.CanError, *_GONE) as error:
            raise DeviceError(
                f"device {self._device}: CAN bus {self.where} takes no frame: {error}; check "
                f"adapter, cable, termination and that a node is powered"
            ) from error

    def receive(self, until_ns: int) -> Frame | None:
        """The next frame, or None when `until_ns` has passed and nothing is there any more.

        Sends the heartbeat meanwhile, until the first command. Bytes that are no CAN frame are
        counted. Raises DeviceError.
        """
        garbage = 0
        while True:
            now_ns = time.monotonic_ns()
            if not self._commanded:
                self.beat(now_ns)
            beats = self._beat_ns and not self._commanded
            wake_ns = min(until_ns, self._beat_due_ns) if beats else until_ns
            try:
                message = self._next(max(0, wake_ns - now_ns))
            except (can.CanError, *_GONE, ValueError, IndexError) as error:
                self._refuse_the_end(error)
                garbage += 1
                if garbage > _GARBAGE_MAX:
                    raise self._broken(f"{garbage} unreadable frames in a row") from error
                continue
            if message is None:
                if time.monotonic_ns() < until_ns:
                    continue
                if not self._is_readable(0):
                    return None
                # an adapter's answer to what was sent; a frame may lie behind it
                garbage += 1
                if garbage > _GARBAGE_MAX:
                    raise self._broken(f"{garbage} lines in a row that are no frames")
            elif message.is_error_frame:
                self._note_error(message)
            elif not (message.is_extended_id or message.is_remote_frame or message.is_fd):
                if self._is_own_beat(message):
                    continue
                return Frame(message.arbitration_id, bytes(message.data), message.timestamp)

    def _next(self, wait_ns: int) -> can.Message | None:
        """One frame within `wait_ns`.

        Waits on the descriptor: python-can's own wait counts on the wall clock, which may be set.
        """
        if self._fd < 0:
            return self._bus.recv(wait_ns * 1e-9)
        return self._bus.recv(0) if self._is_readable(wait_ns) else None

    def _is_readable(self, wait_ns: int) -> bool:
        return self._fd >= 0 and bool(select.select([self._fd], [], [], wait_ns * 1e-9)[0])

    def _refuse_the_end(self, error: Exception) -> None:
        """Count what was no frame. Raises DeviceError where it is the bus that has ended."""
        cause = error.__cause__ if isinstance(error, can.CanError) else error
        if isinstance(cause, _GONE):
            raise self._broken(str(cause)) from error
        self.garbage += 1
        if isinstance(cause, UnicodeDecodeError) and hasattr(self._bus, "flush"):
            # python-can's slcan keeps the line that it could not decode, and fails on it for ever
            self._bus.flush()

    def _broken(self, trouble: str) -> DeviceError:
        return DeviceError(
            f"device {self._device}: CAN bus {self.where} is gone: {trouble}; check adapter and "
            f"cable"
        )

    def _note_error(self, message: can.Message) -> None:
        self.errors += 1
        if message.arbitration_id & _ERROR_BUS_OFF:
            raise DeviceError(
                f"device {self._device}: CAN bus {self.where} is off: the controller counted too "
                f"many errors; check bitrate, termination and cable, then restart the interface"
            )

    def received_ns(self, frame: Frame) -> int | None:
        """A frame's arrival by CLOCK_MONOTONIC; None where its stamp does not tell."""
        if self._interface not in _STAMPED_BY_ARRIVAL:
            return None
        now_ns = time.monotonic_ns()
        age_ns = time.time_ns() - round(frame.stamp_s * 1e9)
        if not -_STAMP_GRAIN_NS <= age_ns <= _STAMP_AGE_MAX_NS:
            return None  # the wall clock was set since
        return now_ns - max(0, age_ns)

    # ---- heartbeat -----------------------------------------------------------------------

    def start_beating(self, own_id: int, period_ns: int) -> None:
        """From now on send our heartbeat (CiA 301, 7.2.8.3.2) whenever it is due in a call."""
        self._beat_id, self._beat_ns = HEARTBEAT + own_id, period_ns
        self._beat_due_ns = self._beaten_ns = now_ns = time.monotonic_ns()
        self._commanded = False
        self.beat(now_ns)
        self.silence_ns = 0

    def stop_beating(self) -> None:
        """No heartbeat of ours goes out any more."""
        self._beat_ns = 0

    def feed(self) -> None:
        """A command goes out: from the first one on these alone send our heartbeat, so that the
        drives stop when no valid command comes any more, however busy this end is."""
        self._commanded = True
        self.beat(time.monotonic_ns())

    def beat(self, now_ns: int) -> None:
        """Send our heartbeat if it is due. Raises DeviceError."""
        if self._handing_over is not None:
            self._handing_over.stop()
            self._handing_over = None
            self._beaten_ns = min(now_ns, self._handed_over_ns)
        if self._beat_ns and now_ns >= self._beat_due_ns:
            self.send(self._beat_id, bytes([OPERATIONAL]))
            self._beats += 1
            self.silence_ns = max(self.silence_ns, now_ns - self._beaten_ns)
            self._beat_due_ns, self._beaten_ns = now_ns + self._beat_ns, now_ns

    def hand_over(self, seconds: float) -> None:
        """Let the heartbeat go on by itself until the next call, for so long at most.

        For the time between the end of `enable` and the loop's first call. A timer of python-can
        or of the kernel sends it; it ends with the process.
        """
        message = can.Message(
            arbitration_id=self._beat_id, is_extended_id=False, data=[OPERATIONAL]
        )
        self._handed_over_ns = time.monotonic_ns() + round(seconds * 1e9) - self._beat_ns
        self._is_kernels = self._interface == "socketcan"
        self._handing_over = self._bus.send_periodic(
            message,
            self._beat_ns * 1e-9,
            seconds,
            modifier_callback=None if self._is_kernels else self._count_beat,
        )

    def _count_beat(self, _: can.Message) -> None:
        self._timed_beats += 1

    def _is_own_beat(self, message: can.Message) -> bool:
        """True if a frame is our own heartbeat, which came back.

        It does where the bus echoes, as often as it was sent; and from the kernel's timer, which is
        no part of this socket, with the sign that this computer sent it.
        """
        if not self._beat_id or message.arbitration_id != self._beat_id:
            return False
        if self._interface in _ECHOES and self._echoed < self._beats + self._timed_beats:
            self._echoed += 1
            return True
        return self._is_kernels and not message.is_rx

    # ---- SDO -----------------------------------------------------------------------------

    def get(self, node: int, entry: Entry) -> int:
        """Read an object of up to 4 bytes. Raises SdoRefusedError, DeviceError."""
        reply = self._ask(node, entry, upload(entry), 0x40)
        if not reply[0] & 0x02:
            raise DeviceError(
                f"device {self._device}: node {node} on {self.where}: {entry} has more than 4 "
                f"bytes, expected are {entry.size}"
            )
        size = 4 - (reply[0] >> 2 & 3) if reply[0] & 0x01 else entry.size
        return int.from_bytes(reply[4 : 4 + size], "little", signed=entry.signed)

    def answering(self, nodes: list[int], entry: Entry) -> list[int]:
        """Ask all nodes for an object at once; those that answer in time, whatever it is."""
        for node in nodes:
            self.send(SDO_REQUEST + node, upload(entry))
        found: set[int] = set()
        until_ns = time.monotonic_ns() + _SDO_NS
        while len(found) < len(nodes) and (frame := self.receive(until_ns)) is not None:
            if frame.id - SDO_REPLY in nodes:
                found.add(frame.id - SDO_REPLY)
            else:
                self._heard(frame)
        return [node for node in nodes if node in found]

    def put(self, node: int, entry: Entry, value: int) -> None:
        """Write an object of up to 4 bytes. Raises SdoRefusedError, DeviceError."""
        self._ask(node, entry, download(entry, value), 0x60)

    def _ask(self, node: int, entry: Entry, request: bytes, expected: int) -> bytes:
        head = _HEAD.pack(request[0], entry.index, entry.sub)
        request = (head + request[4:]).ljust(8, b"\0")
        for _ in range(_SDO_TRIES):
            self.send(SDO_REQUEST + node, request)
            until_ns = time.monotonic_ns() + _SDO_NS
            while (frame := self.receive(until_ns)) is not None:
                mine = frame.id == SDO_REPLY + node and len(frame.data) == 8
                if not mine or frame.data[1:4] != head[1:4]:
                    self._heard(frame)
                elif frame.data[0] & 0xE0 == expected:
                    return frame.data
                elif frame.data[0] == 0x80:
                    raise SdoRefusedError(int.from_bytes(frame.data[4:], "little"))
        raise DeviceError(
            f"device {self._device}: node {node} on {self.where}: no answer to {_SDO_TRIES} SDO "
            f"requests for {entry}; check power, wiring, node id and bitrate"
        )


def upload(entry: Entry) -> bytes:
    """The request that reads an object: initiate upload (CiA 301, 7.2.4.3.5)."""
    return _HEAD.pack(0x40, entry.index, entry.sub).ljust(8, b"\0")


def download(entry: Entry, value: int) -> bytes:
    """The request that writes an object: expedited download (CiA 301, 7.2.4.3.3)."""
    command = 0x23 | (4 - entry.size) << 2
    data = value.to_bytes(entry.size, "little", signed=entry.signed)
    return (_HEAD.pack(command, entry.index, entry.sub) + data).ljust(8, b"\0")
