#!/usr/bin/env bash
# mujoco 4.0.0: effort="0" in a URDF means no limit, and velocity limits are dropped
#
# URDF exporters that know no limits write effort="0" velocity="0". Taken by its words such a joint
# can do nothing, and pin 4.1.0 says so (effortLimit 0). MuJoCo takes 0 for "no limit", and has
# nothing for the velocity of any joint. So the limits that a simulated arm obeys are not the
# ones that a controller beside it reads out of the same file.
# Seen on Python 3.11:
#     strong: mujoco force range [-5.0, 5.0]; pinocchio effort 5.0, velocity 2.0
#     unknown: mujoco without a force range; pinocchio effort 0.0, velocity 0.0
# State limits by hand where an arm is commanded.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pin==4.1.0 mujoco==4.0.0
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import mujoco
import pinocchio

LINK = """<link name="{}"><inertial><mass value="1"/>
<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>"""
JOINT = """<joint name="{}" type="revolute"><parent link="{}"/><child link="{}"/><axis xyz="0 1 0"/>
<limit lower="-1" upper="1" effort="{}" velocity="{}"/></joint>"""
urdf = '<robot name="arm">' + "".join(LINK.format(name) for name in ("base", "upper", "lower"))
urdf += JOINT.format("strong", "base", "upper", 5, 2)
urdf += JOINT.format("unknown", "upper", "lower", 0, 0) + "</robot>"

model = mujoco.MjModel.from_xml_string(urdf)
reference = pinocchio.buildModelFromXML(urdf)
for index, name in enumerate(("strong", "unknown")):
    joint = model.joint(name).id
    found = "without a force range"
    if model.jnt_actfrclimited[joint]:
        found = f"force range {model.jnt_actfrcrange[joint].tolist()}"
    effort, velocity = reference.effortLimit[index], reference.velocityLimit[index]
    print(f"{name}: mujoco {found}; pinocchio effort {effort}, velocity {velocity}")
PYTHON
diff "$folder/seen" - <<'SEEN'
strong: mujoco force range [-5.0, 5.0]; pinocchio effort 5.0, velocity 2.0
unknown: mujoco without a force range; pinocchio effort 0.0, velocity 0.0
SEEN
