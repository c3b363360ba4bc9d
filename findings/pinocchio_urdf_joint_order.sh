#!/usr/bin/env bash
# pin 4.1.0 and mujoco 4.0.0: one URDF, two joint orders
#
# Pinocchio numbers the joints that hang on one link by their names, MuJoCo by their place in the
# file. A vector of joint positions that goes from one to the other is valid in both, and means
# another pose. Here the wrist carries two fingers; the right one stands first in the file.
# Seen on Python 3.11:
#     pinocchio ['wrist', 'left_finger', 'right_finger']
#     mujoco ['wrist', 'right_finger', 'left_finger']
# Go by joint names, never by index.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pin==4.1.0 mujoco==4.0.0
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import mujoco
import pinocchio

INERTIA = '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
JOINT = """<joint name="{0}" type="revolute"><parent link="{1}"/><child link="{2}"/><axis xyz="0 1 0"/>
<limit lower="-1" upper="1" effort="5" velocity="2"/></joint>"""
urdf = '<robot name="gripper">'
urdf += "".join(f'<link name="{name}">{INERTIA}</link>' for name in ("base", "hand", "right", "left"))
urdf += JOINT.format("wrist", "base", "hand")
urdf += JOINT.format("right_finger", "hand", "right") + JOINT.format("left_finger", "hand", "left")
urdf += "</robot>"

model = mujoco.MjModel.from_xml_string(urdf)
print("pinocchio", list(pinocchio.buildModelFromXML(urdf).names)[1:])
print("mujoco", [model.joint(index).name for index in range(model.njnt)])
PYTHON
diff "$folder/seen" - <<'SEEN'
pinocchio ['wrist', 'left_finger', 'right_finger']
mujoco ['wrist', 'right_finger', 'left_finger']
SEEN
