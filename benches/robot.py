"""The demo robot in front of the real core: over socket pairs, or over a pty with the emulator."""

import dataclasses
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from benches.native import ffi, lib
from inphase import schedule as schedules
from inphase._core import ffi as core_ffi
from inphase.core.core import Core
from inphase.frames import store
from inphase.frames.store_follower import StoreFollower
from inphase.packets import checksum
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.schedule import Schedule

SCHEDULES = Path(__file__).parent.parent / "schedules"
SERVOS = 6
_READY_S = 20.0
_FOREVER = 2**63 - 1


def demo(
    priority: int, cpu: int, *, depth: int = 1024, period_us: int = 2000, policy: bool = False
) -> Schedule:
    """The demo's schedule; another period moves its offsets and ages along."""
    read = schedules.load(SCHEDULES / "demo.toml")
    max_age_ms = max(10.0, 5e-3 * period_us)
    cycle = replace(
        read.cycle,
        rate_hz=None,
        period_us=period_us,
        read_deadline_us=period_us * 13 // 20,
        act_us=period_us * 17 // 20,
        cpu=cpu,
        priority=max(priority, 1),
        overrun_limit=1_000_000,
    )
    return replace(
        read,
        cycle=cycle if period_us != 2000 else replace(read.cycle, cpu=cpu, overrun_limit=1_000_000),
        sensor={name: replace(s, max_age_ms=max_age_ms) for name, s in read.sensor.items()},
        store=replace(read.store, depth=depth),
        policy=read.policy if policy else None,
    )


def plan_of(schedule: Schedule) -> Plan:
    """Its plan. A period too short for the wire is let through: no wire is here."""
    plan = planning.make(replace(schedule, cycle=schedules.load(SCHEDULES / "demo.toml").cycle))
    return dataclasses.replace(plan, schedule=schedule)


def open_core(plan: Plan, *, cycles: int = 0) -> Core:
    """A core with its actuator enabled, nothing attached."""
    epoch = store.new_epoch()
    core = Core(
        plan,
        epoch=epoch,
        description=plan.description(epoch),
        cycles=cycles,
    )
    core.enable(0, True)
    core.guarded(0, True)  # nothing moves here
    core.arm()
    return core


@contextmanager
def commanded(core: Core) -> Iterator[None]:
    """A thread that answers every frame with the position in which the servos are; before start."""
    follower = StoreFollower(core.segment.path)
    made, bell = core.mailbox()
    mailbox = store.Mailbox(os.dup(made.fd), os.dup(bell.fd))
    mailbox.wake(follower.reader)
    values = core_ffi.new("double[]", SERVOS)

    def follow() -> None:
        try:
            while not stop.is_set():
                frame = follower.next(timeout_s=10.0, newest=True)
                mailbox.post(frame.cycle, _FOREVER, values, SERVOS)
        except (store.Lost, TimeoutError):
            return

    stop = threading.Event()
    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        core.close()  # it reads the mailbox as long as it lives
        thread.join()
        follower.close()
        for opened in (mailbox, made, bell):
            opened.close()


def fast_sync_reply() -> bytes:
    """What six servos in the middle of their range answer to a fast sync read."""
    packet = b"\xff\xff\xfd\x00\xfe" + struct.pack("<HB", 1 + SERVOS * 14, 0x55)
    for ident in range(1, SERVOS + 1):
        packet += struct.pack("<BBhii", 0, ident, 0, 0, 2048)
        packet += struct.pack("<H", checksum("CRC-16/UMTS", packet))
    return packet


class SocketPairs:
    """Both devices answered by a C thread with prebuilt bytes. Whoever opens it closes it."""

    def __init__(self, priority: int, cpu: int) -> None:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        self._pairs = [socket.socketpair(socket.AF_UNIX, kind) for _ in range(2)]
        for _, device in self._pairs:
            device.setblocking(True)
        packet = fast_sync_reply()
        record = struct.pack(">III6i", 1, 1, 0, 0, 0, -4_900_000, 0, 0, 0)
        responder = ffi.new("bench_responder **")
        rc = lib.bench_responder_start(
            responder,
            self._pairs[0][1].fileno(),
            packet,
            len(packet),
            self._pairs[1][1].fileno(),
            record,
            priority,
            cpu,
        )
        assert rc == 0, rc
        self._responder = responder[0]

    @property
    def fds(self) -> list[int]:
        """The core's ends, in the order of the schedule's devices."""
        return [ours.fileno() for ours, _ in self._pairs]

    def close(self) -> None:
        """Stop the responder."""
        lib.bench_responder_stop(self._responder)
        for ours, device in self._pairs:
            ours.close()
            device.close()


@contextmanager
def socket_pairs(priority: int, cpu: int) -> Iterator[list[int]]:
    """Descriptors for the core's two devices. The responder is real-time as devices are."""
    pairs = SocketPairs(max(priority - 10, 0), cpu)
    try:
        yield pairs.fds
    finally:
        pairs.close()


@contextmanager
def emulated(schedule: Schedule) -> Iterator[tuple[Plan, list[int]]]:
    """The real emulator on a pty and loopback, and the drivers' own descriptors."""
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        text = (SCHEDULES / "demo.toml").read_text().replace("/tmp/inphase-demo", folder)
        path = Path(folder) / "demo.toml"
        path.write_text(text.replace("config_port = 8088", "config_port = 8098\nport = 49162"))
        command = [sys.executable, "-m", "inphase_drivers.emulator", str(path), "--no-wire-time"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            read = schedules.load(path)
            plan = planning.make(replace(read, cycle=schedule.cycle, store=schedule.store))
            fds = [driver.open() for driver in plan.drivers.values()]
            for driver in plan.drivers.values():
                driver.enable()
            plan = planning.make(plan.schedule, plan.drivers)
            yield plan, fds
            for driver in plan.drivers.values():
                driver.close()
        finally:
            process.terminate()
            process.wait()


@contextmanager
def running(schedule: Schedule, responder_priority: int, cpu: int) -> Iterator[StoreFollower]:
    """A core on the wall clock, commanded, its devices answered on `cpu`; its frames."""
    with (
        socket_pairs(responder_priority, cpu) as fds,
        open_core(plan_of(schedule)) as core,
        commanded(core),
    ):
        for device, fd in enumerate(fds):
            core.attach(device, fd)
        follower = StoreFollower(core.segment.path)
        core.start()
        yield follower
        follower.close()


def wait_ended(core: Core) -> None:
    """Until the cycle thread has ended."""
    until = time.monotonic() + _READY_S
    while not core.ended(100_000_000):
        if time.monotonic() > until:
            raise TimeoutError("the cycle thread does not end")


def pin(cpu: int) -> None:
    """Keep this thread, and what it starts, on one core."""
    os.sched_setaffinity(0, [cpu])
