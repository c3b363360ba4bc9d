"""Runs in lock step that are recorded, and readers of recordings that nobody here wrote."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from mcap.reader import make_reader

import inphase
from inphase.episodes import lockstep
from inphase.episodes.lockstep import LockStep
from inphase.frames.frame import Frame
from peers import ROOT

DEMO = ROOT / "schedules" / "demo.toml"

# a camera, a sensor that never speaks, and one whose numbers have every kind
ODD = """
name = "odd"
[cycle]
rate_hz = 100
read_deadline_us = 5000
act_us = 7000
realtime = "prefer"
[device.imu]
driver = "simulated"
[device.imu.fields]
turn = { unit = "rad/s", shape = [3], dtype = "<f4" }
count = { dtype = "<i2" }
raw = { shape = [6], dtype = "|u1" }
[device.camera]
driver = "simulated"
latency_us = 12000
[device.camera.fields]
image = { unit = "1", shape = [12, 16, 3], dtype = "|u1" }
[device.mute]
driver = "simulated"
[device.mute.fields]
x = {}
[sensor.imu]
device = "imu"
trigger_us = 0
max_age_ms = 60
[sensor.camera]
device = "camera"
trigger_us = 0
every = 4
latency_cycles = 2
max_age_ms = 100
[sensor.mute]
device = "mute"
trigger_us = 0
max_age_ms = 60
[timing.sensors.mute]
dropout = 1.0
"""


def record(schedule: Path, cycles: int, path: Path, seed: int = 1) -> dict[str, Any]:
    """Record a run; its summary."""
    return lockstep.run(inphase.load(schedule), cycles, seed=seed, record=path)


def keep(schedule: Path, cycles: int, seed: int = 1) -> tuple[list[Frame], str]:
    """The same run without a recorder: copies of its frames, and its digest."""
    frames: list[Frame] = []
    with LockStep(inphase.load(schedule), seed=seed) as robot:
        while len(frames) < cycles:
            robot.run(1)
            newest = robot.follower.peek(robot.core.frames - 1)
            frames.append(newest.copy())
        return frames, robot.digest()


class Foreign:
    """The messages of a file as `mcap` and protobuf read them, with all checksums."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            reader = make_reader(file, validate_crcs=True)
            self.summary = reader.get_summary()
            assert self.summary is not None
            self.metadata = {one.name: one.metadata for one in reader.iter_metadata()}
            messages = [*reader.iter_messages()]
            backwards = [*reader.iter_messages(reverse=True)]
        key = [(channel.topic, one.sequence, one.data) for _, channel, one in messages]
        assert sorted(key) == sorted((c.topic, one.sequence, one.data) for _, c, one in backwards)
        assert self.summary.statistics is not None
        assert self.summary.statistics.message_count == len(messages)
        self.topics = {channel.topic for channel in self.summary.channels.values()}
        self.log_times = [one.log_time for _, _, one in messages]
        self.of: dict[str, list[Any]] = {topic: [] for topic in self.topics}
        self.times: dict[str, list[int]] = {topic: [] for topic in self.topics}
        made: dict[int, Any] = {}
        for schema, channel, one in messages:
            assert schema is not None
            kind = made.setdefault(schema.id, message_class(schema.data, schema.name))
            self.of[channel.topic].append(kind.FromString(one.data))
            self.times[channel.topic].append(one.log_time)


def message_class(descriptors: bytes, name: str) -> Any:
    """The class that protobuf makes of a description."""
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
