"""press.toml with a sensor that only a world can have: where the board is, and what it feels."""

import json
import re
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent
ARM = ["arm_pan", "arm_lift", "arm_elbow", "arm_roll", "arm_pitch", "arm_yaw"]
BOARD_M = 0.11  # its upper side, where both its joints are at 0

TRUTH = f"""
[device.truth]
driver = "simulated"

[device.truth.fields]
position = {{ unit = "rad", shape = [6] }}
velocity = {{ unit = "rad/s", shape = [6] }}
board = {{ unit = "m", shape = [2] }}
board_velocity = {{ unit = "m/s", shape = [2] }}
board_acceleration = {{ unit = "m/s^2", shape = [2] }}
touch = {{ unit = "N", shape = [1] }}
tip = {{ unit = "m", shape = [3] }}

[sensor.truth]
device = "truth"
trigger_us = 0
max_age_ms = 20

[world.sensor.truth.fields]
position = {{ joint_position = {json.dumps(ARM)} }}
velocity = {{ joint_velocity = {json.dumps(ARM)} }}
board = {{ joint_position = ["swell", "heave"] }}
board_velocity = {{ joint_velocity = ["swell", "heave"] }}
board_acceleration = {{ joint_acceleration = ["swell", "heave"] }}
touch = {{ sensor = "arm_touch" }}
tip = {{ site_position = "arm_tcp" }}
"""


def write(folder: Path, *, policy: bool) -> Path:
    """Write it and what it needs into `folder`, with the network or without a policy; its path."""
    text = (HERE / "press.toml").read_text()
    files = ["press.xml", "arm.xml", "press_task.py"]
    if policy:
        files.append("press.onnx")
    else:
        text = re.sub(r"(?ms)^\[policy\].*?(?=^# ----)", "", text)
    for name in files:
        shutil.copy(HERE / name, folder)
    path = folder / "press.toml"
    path.write_text(text + TRUTH)
    return path
