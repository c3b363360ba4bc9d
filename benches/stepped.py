"""The parts of the frame path that are counted: each runs between two system calls that mark it.

    python -m benches.stepped [--short]    waits for a line, then runs each part TIMES times

--short runs the parts of C alone: those with Python in them take most of the time.

Everything happens in this process and in virtual time: the counts depend on nothing that happens
elsewhere. Only the sender of frames has a second thread, which is libzmq's own.
"""

import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zmq
from msgspec.structs import replace

from benches.sampler import CHANNELS
from benches.trivial import hold
from inphase import batched, of_observation
from inphase import schedule as schedules
from inphase._core import ffi, lib
from inphase.episodes.lockstep import LockStep
from inphase.frames import record_layout, store, wire
from inphase.frames.layout import Layout
from inphase.frames.message import Form
from inphase.frames.store_follower import StoreFollower
from inphase.gym import Environment, Environments
from inphase.policy.command_buffer import make_buffer
from inphase.policy.remarks import Remarks
from inphase.policy.turn import Turn, valid_ns
from inphase.runtime.frame_sender import Sender

TIMES = 2
"""each part, after it was warmed up"""
_WARM = 150  # more than a ring has slots
_FIXED, SHORT = "--fixed-addresses", "--short"
_NO_RANDOM_ADDRESSES = 0x0040000
_SCHEDULES = Path(__file__).resolve().parent.parent / "schedules"
_SENSOR = """
[device.s{0:02}]
driver = "benches.sampler:Sampler"
port = {1}
[sensor.s{0:02}]
device = "s{0:02}"
max_age_ms = 10000
trigger_us = 0
"""
_HEAD = """
name = "counted"
[cycle]
period_us = 4000
read_deadline_us = 2600
act_us = 3400
realtime = "prefer"
"""


class Part(NamedTuple):
    """What is counted, and what is done before it each time."""

    name: str
    run: Callable[[], Any]
    prepare: Callable[[], Any]
    is_c: bool = False
    """no Python runs within"""


def _nothing() -> None:
    pass


def _sensors(count: int) -> schedules.Schedule:
    """So many exchanges of 64 bytes, all triggered at the cycle's start."""
    text = _HEAD + "".join(_SENSOR.format(i, i + 1) for i in range(count))
    with tempfile.TemporaryDirectory(prefix="inphase-bench-") as folder:
        path = Path(folder) / "counted.toml"
        path.write_text(text)
        return schedules.load(path)


@contextmanager
def _cycling(count: int) -> Iterator[LockStep]:
    with LockStep(_sensors(count), digest=False) as run:
        yield run


def _turns(stack: ExitStack, run: LockStep, described: schedules.Schedule) -> Callable[[], Any]:
    """From one frame to the next, as the policy's process goes."""
    follower = StoreFollower(run.core.segment.path)
    buffer = make_buffer(described, follower.layout.actuators)
    made = store.Segment._made(lib.inphase_mailbox_make, 0, buffer.count, follower.layout.epoch)
    bell = store.Segment.bell()
    mailbox = store.Mailbox(os.dup(made.fd), os.dup(bell.fd))
    turn = Turn(hold, buffer, described, Remarks(print, described, is_confined=True))
    turns = store.Turns(
        follower.reader,
        mailbox,
        values=buffer.pointer,
        count=buffer.count,
        every=1,
        valid_ns=valid_ns(described),
    )
    for one in (follower, made, bell, mailbox):
        stack.callback(one.close)
    run.core.run(1)
    lost = [turns.first()]

    def answer() -> None:
        lost[0] = turns.next(turn.take(follower.at_hand(lost[0])))

    return answer


def _subscriber(stack: ExitStack, run: LockStep) -> Callable[[], float]:
    """One value of each sensor of a frame, and whether they are whole."""
    follower = StoreFollower(run.core.segment.path)
    stack.callback(follower.close)

    def read() -> float:
        frame, total = follower.next(), 0.0
        for sample in frame.samples.values():
            total += sample.value["x"][0]
        assert frame.intact
        return total

    return read


def _sender(stack: ExitStack, run: LockStep, *, is_heard: bool) -> Callable[[], None]:
    """The process that sends frames; heard by a subscriber of this process, or by nobody."""
    sender = Sender(run.core.segment.path)
    stack.callback(sender.close)
    endpoint = f"ipc://{stack.enter_context(tempfile.TemporaryDirectory())}/frames"
    sender.socket.bind(endpoint)
    if is_heard:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        stack.callback(socket.close, 0)
        socket.setsockopt(zmq.SUBSCRIBE, wire.TOPIC_FRAME)
        socket.connect(endpoint)
        sender.socket.poll(10_000)
        sender.take_in_newcomers()
    return sender.follow


def _codec() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A header of 16 sensors and two actuators, written and read."""
    sensors, actuators = 16, (("a0", 6, "rad"), ("a1", 1, "rad"))
    layout = Layout(
        robot="counted",
        hash="0123456789abcdef",
        epoch=0x1122334455667788,
        period_ns=1_000_000,
        sensors=tuple(f"s{i}" for i in range(sensors)),
        dtypes=(wire.sample_dtype([("x", (), "<f8")]),) * sensors,
        units=({"x": ""},) * sensors,
        depths=(16,) * sensors,
        actuators=actuators,
        rates=({},) * sensors,
    )
    form = Form(layout, wire.places([8] * sensors))
    record = ffi.from_buffer(_record(sensors, [count for _, count, _ in actuators]))
    there = bytes([lib.INPHASE_WIRE_HERE] * sensors)
    size = form.header_size
    header, back = ffi.new("uint8_t[]", size), ffi.new("uint8_t[]", len(record))
    number, found = ffi.new("int64_t *"), ffi.new("uint8_t[]", sensors)
    pack, unpack = lib.inphase_wire_pack, lib.inphase_wire_unpack

    def encode() -> Any:
        return pack(form.c, record, 123_456, 5_000_000_000_000, there, header, size)

    def decode() -> Any:
        return unpack(form.c, header, size, back, number, found)

    assert encode() == size
    assert decode() >= 0
    return encode, decode


def _limiter() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A joint on its way to a request that it cannot reach at once; and its start."""
    limits = {"low": -2, "high": 2, "velocity": 2, "acceleration": 20, "step": 0.25, "jerk": 200}
    made = ffi.new("struct inphase_limiter *")
    assert lib.inphase_limiter_make(made, ffi.new("struct inphase_limits *", limits), 0.002) == 0
    moving = {"position": 0.1, "velocity": 0.5, "acceleration": 1.0, "goal": 0.2}
    start = ffi.new("struct inphase_motion *", moving)
    motion = ffi.new("struct inphase_motion *")
    measured = ffi.new("struct inphase_measured *", [0.1, 0.5, 0.0])
    limit = lib.inphase_limit

    def begin() -> None:
        motion[0] = start[0]

    return lambda: limit(made, motion, 1.0, measured), begin


def _environments(stack: ExitStack, demo: schedules.Schedule) -> Iterator[Part]:
    """A step of one environment and of two, each with a reward."""
    one = stack.enter_context(closing(Environment(demo, flat=True, reward=_of_observation)))
    frames = stack.enter_context(closing(Environment(demo, flat=True, reward=_of_frame)))
    many = Environments(2, demo, flat=True, reward=_of_frame, workers=1)
    stack.enter_context(closing(many))
    for name, env in (("its observation", one), ("its frame", frames), ("2 together", many)):
        env.reset(seed=1)
        action = np.zeros(env.action_space.shape or ())
        yield Part(f"environment step, a reward of {name}", partial(env.step, action), _nothing)


@of_observation
def _of_observation(observed: Any) -> Any:
    return observed[..., 1]


@batched
def _of_frame(frames: Any) -> Any:
    return frames["joints"].value["position"][..., 1]


def _record(sensors: int, channels: list[int]) -> bytes:
    """A frame record with the numbers of a robot that has run for a while."""
    header, row, act = record_layout.HEADER, record_layout.ROW, record_layout.ACT
    late_ns = 5_000_000_000_000
    record: bytes = header.pack(*(late_ns if c == "q" else 1 for c in header.codes.values()))
    for sensor in range(sensors):
        record += row.pack(*(late_ns + sensor if c == "q" else 0 for c in row.codes.values()))
    for count in channels:
        record += act.pack(*act.values(channels=count)) + bytes(16 * count)
    return record


@contextmanager
def parts() -> Iterator[list[Part]]:
    """All of them."""
    demo = schedules.load(_SCHEDULES / "demo.toml")
    near = {name: replace(one, first_command="approach") for name, one in demo.actuator.items()}
    alone = replace(demo, policy=None, actuator=near)
    with ExitStack() as stack:
        found = []
        for count in (1, 6, 16):
            run = stack.enter_context(_cycling(count))
            found.append(Part(f"cycle, {count} sensors", _runs(run), _nothing, is_c=True))
        sixteen = run
        one = stack.enter_context(LockStep(alone, digest=False))
        found.append(Part("cycle, demo without a policy", _runs(one), _nothing, is_c=True))
        called = stack.enter_context(LockStep(alone, call=hold, digest=False))
        found.append(Part("cycle, demo with a policy in Python", lambda: called.run(1), _nothing))
        answers = _turns(stack, one, replace(demo, actuator=near))
        found.append(Part("frame to command", answers, _runs(one)))
        reads = _subscriber(stack, sixteen)
        found.append(Part("subscriber, a value of 16 sensors", reads, _runs(sixteen)))
        heard = _sender(stack, one, is_heard=True)
        found.append(Part("gateway, a frame of the demo", heard, _runs(one)))
        encode, decode = _codec()
        found.append(Part("codec, encode", encode, _nothing, is_c=True))
        found.append(Part("codec, decode", decode, _nothing, is_c=True))
        found.append(Part("limiter, a joint", *_limiter(), is_c=True))
        found += _environments(stack, replace(demo, actuator=near))
        yield [part for part in found if part.is_c] if SHORT in sys.argv else found


def _runs(run: LockStep) -> Callable[[], Any]:
    core = run.core

    def cycle() -> None:
        core.run(1)

    return cycle


def main() -> None:
    """Warm up, say the names, wait to be stepped, and run."""
    if _FIXED not in sys.argv:
        ctypes.CDLL(None).personality(_NO_RANDOM_ADDRESSES)  # where it is refused, they are random
        os.execv(sys.executable, [sys.executable, "-m", "benches.stepped", _FIXED, *sys.argv[1:]])
    with parts() as found:
        for part in found:
            for _ in range(_WARM):
                part.prepare()
                part.run()
        gc.collect()
        gc.freeze()
        gc.disable()
        print("\t".join(part.name for part in found), flush=True)
        sys.stdin.readline()
        for part in found:
            for _ in range(TIMES):
                part.prepare()
                os.getppid()
                part.run()
                os.getuid()
        os.getpgid(0)


if __name__ == "__main__":
    assert CHANNELS == 8
    main()
