"""The expected value of each key of a schedule, in words, for the errors that ask for it."""

from inphase.schedule import toml_position

MEANING = {
    "rate_hz": 'cycles per second, such as 500, or a fraction such as "30000/1001"',
    "period_us": "the period in microseconds, such as 2000",
    "read_deadline_us": "microseconds from the cycle's start, such as 1200",
    "act_us": "microseconds from the cycle's start, such as 1600",
    "trigger_us": "microseconds from the cycle's start, such as 0",
    "chip": 'the device file of a GPIO chip, such as "/dev/gpiochip0"',
    "line.line": "the offset of a line of its chip, 0 to 65535",
    "trigger_line": 'a table such as { chip = "/dev/gpiochip0", line = 17 }',
    "every": "a count of cycles from one trigger to the next, 1 or more",
    "latency_cycles": "a count of cycles from the trigger to the frame, 0 or more, below every",
    "frozen_after": "a count of bit-identical samples, 2 or more",
    "burst": "a count of samples since the last frame, 1 to 64",
    "accepts": 'a list of statuses such as ["FRESH", "HELD"]',
    "home": '"cycle", "process" or "thread"',
    "max_age_ms": "milliseconds from which a sample counts as MISSING, such as 10",
    "guard.max_hold_ms": "milliseconds without a heartbeat after which the guard stops the devices",
    "max_hold_ms": "milliseconds for which the last valid command is repeated, such as 20",
    "bytesize": "data bits of a serial port, 5 to 8",
    "parity": '"N" for none, "E" even, "O" odd, "M" mark or "S" space',
    "stopbits": "1 or 2",
    "rest_speed": "a speed such as 0.05 in rad/s or m/s; slower is at rest",
    "resumed_after_ms": "milliseconds, above 0 and up to 60000",
    "overrun_limit": "a count of overruns, 1 to 1000000",
    "realtime": '"require" or "prefer"',
    "cpu": "the number of a core",
    "depth": "slots of a ring, a power of two from 8 to 65536",
    "group": "the name of a group whose members may read the store",
    "mode": '"position", "velocity", "effort" or "switch"',
    "on_stop": '"hold" or "off"',
    "line": 'a table such as { chip = "/dev/gpiochip0", line = 17 }',
    "sample": '"sensor.field"',
    "pressed": '"low" or "high"',
    "mask": "the bits that count, a whole number such as 1",
    "first_command": '"refuse" or "approach"',
    "on_miss": '"repeat" or "coast"',
    "on_estop": '"ramp" or "off"',
    "sign": "1 or -1 for each channel",
    "zero": "a table of field = number or list, in SI",
    "range": "a table of field = [lo, hi] or a list of such pairs, in SI",
    "rate": "a table of field = number or list: largest change per second, in SI",
    "priority": "a SCHED_FIFO priority, 1 to 98 (0 to 98 for a policy or a device)",
    "module": "the name of a Python module",
    "cycle": "a table with rate_hz, read_deadline_us and act_us",
    "driver": '"module:Class", "file.py:Class", or a name that `inphase drivers` shows',
    "call": '"file.py:name" or "module:name"',
    "model": 'an ONNX file beside the schedule, such as "policy.onnx"',
    "world.model": 'an MJCF file beside the schedule, such as "arm.xml"',
    "weights": 'a safetensors file beside the schedule, such as "policy.safetensors"',
    "remote": "an ipc:// or loopback tcp:// address that the policy connects to",
    "inputs": 'a table such as { obs = ["joints.position", "joints.velocity"] }',
    "outputs": 'a table such as { action = "arm" }, or with a list of actuators',
    "normalise": "a table such as { obs = { mean = [0.0, 0.1], std = 2.0 } }",
    "images": 'a table such as { image = { layout = "NCHW", scale = 0.00392156862745098 } }',
    "layout": '"NHWC" or "NCHW"',
    "scale": "a factor above 0, such as 0.00392156862745098 for 0 to 1",
    "policy.state": 'a table such as { h_in = "h_out" }',
    "mean": "a number, or a list of one per number of the tensor",
    "std": "a positive number, or a list of one per number of the tensor",
    "runtime": '"c" or "python"',
    "threads": "a count of threads, 1 to 64",
    "allow": 'a list of "network", "gpu", "devices", "files", "processes"',
    "providers": 'a list of ONNX Runtime\'s execution providers, with runtime = "python"',
    "policy.every": "a count of cycles from one frame that the policy takes to the next, 1 or more",
    "policy.latency_cycles": "a count of cycles from a frame to the act of its answer, 0 or more",
    "chunk": "a count of commands in an answer, 1 to 1024",
    "chunk_every": "a count of cycles from one command of a chunk to the next, which divides every",
    "join": '"switch", "blend" or "freeze"',
    "blend_cycles": "a count of cycles, 1 or more",
    "interpolate": '"hold", "linear" or "cubic"',
    "align": "the name of a sensor",
    "history": "a count of frames, 1 to 64",
    "history_start": '"wait" or "repeat"',
    "device": "the name of a [device.NAME] table",
    "feedback": '"sensor.field"',
    "feedback_velocity": '"sensor.field"',
    "feedback_effort": '"sensor.field"',
    "endpoint": "an ipc:// or loopback tcp:// address",
    "control": "an ipc:// or loopback tcp:// address",
    "page.address": 'an address of this host and a port, such as "127.0.0.1:8470"',
    "page.model": 'an MJCF file beside the schedule, such as "arm.xml"',
    "page.joints": 'a table such as { "joints.position" = ["pan", "lift"] }',
    "name": "lower-case letters, digits, - and _, at most 32",
    "limits": "a table; in position mode with position, velocity, acceleration, step and, if "
    "wanted, jerk",
    "position": "[lo, hi] in rad, or a list of such pairs",
    "velocity": "rad/s, one number or one per channel",
    "acceleration": "rad/s^2, one number or one per channel",
    "jerk": "rad/s^3, one number or one per channel; left out: not bounded",
    "step": "rad, one number or one per channel",
    "effort": "N m or the driver's unit, one number or one per channel",
    "effort_rate": "N m/s or the driver's unit per second, one number or one per channel",
    "dwell_ms": "milliseconds from one change of a switch to the next, 0 to 1200",
    "workspace": "a table with low, high and joints",
    "workspace.low": "a corner of the box, [x, y, z] in m",
    "workspace.high": "a corner of the box, [x, y, z] in m",
    "workspace.tool": "the tool's point from the last joint, [x, y, z] in m",
    "workspace.joints": "a list of tables such as { axis = [0, 0, 1], translation = [0, 0, 0.1] }",
    "workspace.axis": "a direction, [x, y, z]",
    "workspace.translation": "the joint's place from the one before it, [x, y, z] in m",
    "workspace.kind": '"revolute" or "prismatic"',
}


def meaning(key: toml_position.Path) -> str:
    """The expected value of a key; inside a sensor's tables the names are the driver's."""
    names = [step for step in key if isinstance(step, str)]
    own = names[-1:]
    if names[:1] == ["sensor"] and len(names) > 2 and names[2] != "trigger_line":
        own = names[2:3]
    elif names[-2:] in (["trigger_line", "line"], ["line", "line"]):
        own = ["line.line"]
    elif names[2:3] == ["workspace"] and len(names) > 3:
        own = [f"workspace.{names[-1]}"]
    elif names[:2] == ["policy", "accepts"]:
        own = names[1:2]
    elif names[:1] in (["page"], ["policy"], ["world"]) and ".".join(names) in MEANING:
        own = [".".join(names)]
    return MEANING.get(own[0], "a value of that kind") if own else "tables"
