#!/usr/bin/env bash
# pin 4.1.0: whether a URDF with a mimic joint loads depends on the joints' names
#
# With mimic=True Pinocchio adds sibling joints in the order of their names. A finger that mimics
# another one is refused when its own name comes first in the alphabet: left_finger may not mimic
# right_finger, the other way round is loaded. The files are equal but for the names.
# Seen on Python 3.11:
#     a mimics b: ValueError: The parent joint of the mimic joint is not in the kinematic tree
#     b mimics a: 2 joints, nq 1
# Rename the joints for the loader, or mirror the fingers after loading without mimic=True.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pin==4.1.0
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import pinocchio

LINK = """<link name="{}"><inertial><mass value="1"/>
<inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link>"""
JOINT = """<joint name="{0}" type="prismatic"><parent link="hand"/><child link="of_{0}"/>
<axis xyz="0 1 0"/><limit lower="0" upper="0.04" effort="5" velocity="2"/>{1}</joint>"""


def gripper(leader: str, follower: str) -> str:
    mimic = f'<mimic joint="{leader}" multiplier="1"/>'
    links = "".join(LINK.format(name) for name in ("hand", f"of_{leader}", f"of_{follower}"))
    return f'<robot name="gripper">{links}{JOINT.format(leader, "")}{JOINT.format(follower, mimic)}</robot>'


for leader, follower in (("b", "a"), ("a", "b")):
    try:
        model = pinocchio.buildModelFromXML(gripper(leader, follower), mimic=True)
        found = f"{model.njoints - 1} joints, nq {model.nq}"
    except ValueError as error:
        found = f"ValueError: {error}"
    print(f"{follower} mimics {leader}: {found}")
PYTHON
diff "$folder/seen" - <<'SEEN'
a mimics b: ValueError: The parent joint of the mimic joint is not in the kinematic tree
b mimics a: 2 joints, nq 1
SEEN
