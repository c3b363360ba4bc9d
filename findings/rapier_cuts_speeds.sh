#!/usr/bin/env bash
# rapier3d 0.36.1: a body that gets too fast moves at 400 m/s, or stands still, without an error
#
# A simulation that diverges has speeds without bound. Rapier cuts them at 400 m/s, and where the
# square of a speed is beyond single precision it makes 0 of it. Neither is in `world.quarantine`,
# which tells bodies whose state is not finite. So numbers of a diverged world look plausible.
# Seen on Python 3.11, after three steps of 1 ms:
#     gravity -9.81: -0.029 m/s, quarantine empty
#     gravity -1e+06: -400.000 m/s, quarantine empty
#     gravity -1e+30: 0.000 m/s, quarantine empty
# Look at speeds after each step, and take 400 m/s for a failure.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'rapier3d[numpy]==0.36.1'
"$folder/venv/bin/python" - <<'PYTHON' | tee "$folder/seen"
import rapier3d

for gravity in (-9.81, -1e6, -1e30):
    world = rapier3d.PhysicsWorld(gravity=(0.0, 0.0, gravity))
    world.integration_parameters.dt = 0.001
    body = world.add_body(rapier3d.RigidBody.dynamic().additional_mass(1.0))
    for _ in range(3):
        world.step()
    speed = world.rigid_bodies[body].linvel.z + 0.0
    told = "empty" if world.quarantine.is_empty() else "not empty"
    print(f"gravity {gravity:g}: {speed:.3f} m/s, quarantine {told}")
PYTHON
diff "$folder/seen" - <<'SEEN'
gravity -9.81: -0.029 m/s, quarantine empty
gravity -1e+06: -400.000 m/s, quarantine empty
gravity -1e+30: 0.000 m/s, quarantine empty
SEEN
