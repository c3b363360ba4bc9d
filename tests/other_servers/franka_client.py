"""The maker's client, pylibfranka, moves the arm at an address: it waits there, swings every joint
there and back, and prints where each stood at the start, at its furthest and at the end."""

import json
import math
import sys

import pylibfranka

SECONDS, AMPLITUDE = 2.0, 0.1

robot = pylibfranka.Robot(sys.argv[1], pylibfranka.RealtimeConfig.kIgnore)
start = list(robot.read_once().q_d)
furthest = list(start)
control = robot.start_joint_position_control(pylibfranka.ControllerMode.JointImpedance)
elapsed, is_over = 0.0, False
while not is_over:
    state, passed = control.readOnce()
    elapsed += passed.to_sec()
    furthest = [max(pair) for pair in zip(furthest, state.q, strict=True)]
    is_over = elapsed >= SECONDS
    turn = 2 * math.pi * min(elapsed, SECONDS) / SECONDS
    # a swing whose velocity and acceleration begin and end at zero
    swing = AMPLITUDE * (0.375 - 0.5 * math.cos(turn) + 0.125 * math.cos(2 * turn))
    command = pylibfranka.JointPositions([position + swing for position in start])
    command.motion_finished = is_over
    control.writeOnce(command)
end = list(robot.read_once().q_d)
print(json.dumps({"start": start, "furthest": furthest, "end": end}))
