#!/usr/bin/env bash
# mujoco 4.0.0: an actuator's delay is shorter than it says where nsample is small
#
# delay="0.004" with nsample="2" and a step of 1 ms delays a control by 2 ms: the buffer keeps two
# controls, and an older one is looked up as the oldest that is kept. Neither the compiler nor a
# step says so. The same happens to a model with enough samples when its timestep is made smaller.
# Seen on Python 3.11:
#     nsample 4, step 1 ms: 4 ms
#     nsample 2, step 1 ms: 2 ms
#     nsample 4, step 0.5 ms: 2 ms
# Give at least delay / timestep samples, and more where steps of other lengths lie between.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mujoco==4.0.0
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import mujoco

MODEL = """<mujoco><option gravity="0 0 0"/><worldbody><body><joint name="a" type="slide"/>
<geom size="0.1"/></body></worldbody>
<actuator><motor joint="a" delay="0.004" nsample="{}"/></actuator></mujoco>"""
for nsample, step_ms in ((4, 1), (2, 1), (4, 0.5)):
    model = mujoco.MjModel.from_xml_string(MODEL.format(nsample))
    model.opt.timestep = step_ms / 1e3
    data = mujoco.MjData(model)
    data.ctrl[0] = 1
    steps = 0
    while data.actuator_force[0] == 0:
        mujoco.mj_step(model, data)
        steps += 1
    print(f"nsample {nsample}, step {step_ms} ms: {(steps - 1) * step_ms:g} ms")
PYTHON
diff "$folder/seen" - <<'SEEN'
nsample 4, step 1 ms: 4 ms
nsample 2, step 1 ms: 2 ms
nsample 4, step 0.5 ms: 2 ms
SEEN
