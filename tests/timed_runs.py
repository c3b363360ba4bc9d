"""A robot with one sensor of every kind of timing, and runs of it in lock step."""

from pathlib import Path

from recorded_runs import record

ROBOT = """
name = "timed"
[cycle]
rate_hz = 500
read_deadline_us = 1200
act_us = 1500
realtime = "prefer"
[device.arm]
driver = "simulated"
joints = 2
latency_us = 300
[device.arm.fields]
position = { unit = "rad", shape = [2] }
velocity = { unit = "rad/s", shape = [2] }
[device.wrist]
driver = "simulated"
latency_us = 300
acquire_us = 100
[device.wrist.fields]
force = { unit = "N", shape = [3] }
[device.eye]
driver = "simulated"
latency_us = 5000
[device.eye.fields]
image = { dtype = "|u1", shape = [4, 6, 3] }
[device.imu]
driver = "simulated"
rate_hz = 400
latency_us = 100
[device.imu.fields]
turn = { unit = "rad/s", shape = [3] }
[sensor.joints]
device = "arm"
trigger_us = 0
max_age_ms = 20
[sensor.wrench]
device = "wrist"
trigger_us = 200
max_age_ms = 20
[sensor.eye]
device = "eye"
trigger_us = 0
every = 5
latency_cycles = 3
max_age_ms = 60
[sensor.imu]
device = "imu"
max_age_ms = 20
[actuator.arm]
device = "arm"
feedback = "joints.position"
limits = { position = [-2.5, 2.5], velocity = 4.0, acceleration = 40.0, step = 0.5 }
[policy]
call = "hold.py:hold"
"""
HOLD = 'def hold(frame):\n    return frame["joints"]["position"].copy()\n'
INJECTED = """
[sensors.joints]
latency_ms = { normal = [0.5, 0.08], low = 0.3, high = 0.8 }
[sensors.wrench]
latency_ms = { uniform = [0.2, 0.5] }
dropout = 0.1
[sensors.eye]
latency_ms = { histogram = { edges = [3, 4, 5, 6.5], counts = [10, 70, 20] } }
freeze = 0.01
freeze_samples = 4
[sensors.imu]
latency_ms = { lognormal = [0.4, 0.3], high = 1.5 }
drift_ppm = 250
phase_ms = 0.7
dropout = 0.05
[policy]
inference_ms = { lognormal = [0.15, 0.3], high = 0.5 }
[host]
wake_late_ms = { lognormal = [0.02, 0.5], high = 0.2 }
"""
"""a timing model of that robot"""


def write(folder: Path, model: str, name: str = "robot", robot: str = ROBOT) -> Path:
    """Its schedule, with a timing model in a file of its own."""
    folder.joinpath("hold.py").write_text(HOLD)
    folder.joinpath(f"{name}-timing.toml").write_text(model)
    path = folder / f"{name}.toml"
    path.write_text(f'{robot}\n[timing]\nfile = "{name}-timing.toml"\n')
    return path


def run(folder: Path, model: str, cycles: int, name: str = "robot", seed: int = 1) -> Path:
    """Record it with that model, in `NAME.mcap`."""
    path = folder / f"{name}.mcap"
    record(write(folder, model, name), cycles, path, seed)
    return path
