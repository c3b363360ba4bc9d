"""The state that the arm sends every millisecond, and the command that answers it.

Source: libfranka's protocol headers, version 10: packed, low bytes first.
"""

import struct
from enum import IntEnum
from typing import NamedTuple

JOINTS = 7
_STATE = (
    ("message_id", "Q"),
    *((f"transform_{n}", "16f") for n in range(6)),
    ("end_effector", "13f"),
    ("load", "13f"),
    ("elbow", "4f"),
    ("tau_J", "7f"),
    ("tau_J_d", "7f"),
    ("dtau_J", "7f"),
    ("q", "7f"),
    ("q_d", "7f"),
    ("dq", "7f"),
    ("dq_d", "7f"),
    ("ddq_d", "7f"),
    ("contacts", "26f"),
    ("tau_ext_hat_filtered", "7f"),
    ("O_F_ext_hat_K", "6f"),
    ("K_F_ext_hat_K", "6f"),
    ("twist_d", "6f"),
    ("base_acceleration", "3f"),
    ("elbow_c", "6f"),
    ("O_T_EE_c", "16f"),
    ("twist_c", "12f"),
    ("motors", "14f"),
    ("accelerometers", "36f"),
    ("motion_generator_mode", "B"),
    ("controller_mode", "B"),
    ("errors", "41B"),
    ("reflex_reason", "41B"),
    ("robot_mode", "B"),
    ("success_rate", "f"),
)
STATE_SIZE = struct.calcsize("<" + "".join(kind for _, kind in _STATE))
OFFSETS: dict[str, int] = {}
"""Of each part of a state."""
for _name, _ in _STATE:
    OFFSETS[_name] = struct.calcsize("<" + "".join(kind for _, kind in _STATE[: len(OFFSETS)]))

_COMMAND = "<Q7d7d16d6d2d??7d?"
COMMAND_SIZE = struct.calcsize(_COMMAND)
COMMAND_Q = struct.calcsize("<Q")
COMMAND_FINISHED = struct.calcsize("<Q7d7d16d6d2d?")


class Mode(IntEnum):
    """Modes of the arm."""

    OTHER = 0
    IDLE = 1
    MOVE = 2
    GUIDING = 3
    REFLEX = 4
    USER_STOPPED = 5
    RECOVERY = 6


MODES = {
    Mode.OTHER: "the arm is not ready: unlock its joints in Desk, and activate FCI",
    Mode.GUIDING: "the arm is guided by hand: let go of its guiding button",
    Mode.REFLEX: "a reflex stopped the arm: arm again, which recovers from the error",
    Mode.USER_STOPPED: "the arm is stopped by its user stop: release it, and arm again",
    Mode.RECOVERY: "the arm recovers from an error: wait, and arm again",
}
"""The words for a mode in which no commands count, each with what to do."""

_SLOWER = "lower velocity, acceleration and jerk of the actuator's limits"
_NETWORK = "see inphase doctor for the host, and connect the arm without a switch between"
_STILL = "arm again, with the arm at rest"
_AWAY = "move the arm away by hand, and narrow the actuator's limits"
ERRORS = {
    "joint_position_limits_violation": _AWAY,
    "cartesian_position_limits_violation": _AWAY,
    "self_collision_avoidance_violation": _AWAY,
    "joint_velocity_violation": _SLOWER,
    "cartesian_velocity_violation": _SLOWER,
    "force_control_safety_violation": "move with less force",
    "joint_reflex": "see what the arm touched",
    "cartesian_reflex": "see what the arm touched",
    "max_goal_pose_deviation_violation": _SLOWER,
    "max_path_pose_deviation_violation": _SLOWER,
    "cartesian_velocity_profile_safety_violation": _SLOWER,
    "joint_position_motion_generator_start_pose_invalid": _STILL,
    "joint_motion_generator_position_limits_violation": _AWAY,
    "joint_motion_generator_velocity_limits_violation": _SLOWER,
    "joint_motion_generator_velocity_discontinuity": _SLOWER,
    "joint_motion_generator_acceleration_discontinuity": _SLOWER,
    "cartesian_position_motion_generator_start_pose_invalid": _STILL,
    "cartesian_motion_generator_elbow_limit_violation": _AWAY,
    "cartesian_motion_generator_velocity_limits_violation": _SLOWER,
    "cartesian_motion_generator_velocity_discontinuity": _SLOWER,
    "cartesian_motion_generator_acceleration_discontinuity": _SLOWER,
    "cartesian_motion_generator_elbow_sign_inconsistent": _AWAY,
    "cartesian_motion_generator_start_elbow_invalid": _STILL,
    "force_controller_desired_force_tolerance_violation": "move with less force",
    "start_elbow_sign_inconsistent": _STILL,
    "communication_constraints_violation": _NETWORK,
    "power_limit_violation": _SLOWER,
    "cartesian_motion_generator_joint_position_limits_violation": _AWAY,
    "cartesian_motion_generator_joint_velocity_limits_violation": _SLOWER,
    "cartesian_motion_generator_joint_velocity_discontinuity": _SLOWER,
    "cartesian_motion_generator_joint_acceleration_discontinuity": _SLOWER,
    "cartesian_position_motion_generator_invalid_frame": _STILL,
    "controller_torque_discontinuity": _SLOWER,
    "joint_p2p_insufficient_torque_for_planning": "see that the load is set in Desk",
    "tau_J_range_violation": _SLOWER,
    "instability_detected": "see that the load is set in Desk",
    "joint_move_in_wrong_direction": "move the joint by hand in Desk",
    "cartesian_spline_motion_generator_violation": _STILL,
    "joint_via_motion_generator_planning_joint_limit_violation": _AWAY,
    "base_acceleration_initialization_timeout": "restart the controller",
    "base_acceleration_invalid_reading": "restart the controller",
}
"""Errors in the order of their bytes in a state, each with what to do."""


class State(NamedTuple):
    """The part of a state that the driver itself looks at."""

    message_id: int
    mode: int
    generator: int
    position: tuple[float, ...]
    commanded: tuple[float, ...]
    errors: tuple[str, ...]
    """of now; in a reflex also those that led to it"""


def parse(packet: bytes) -> State:
    """A state of `STATE_SIZE` bytes."""
    (message_id,) = struct.unpack_from("<Q", packet, OFFSETS["message_id"])
    flags = [
        struct.unpack_from("<41?", packet, OFFSETS[part]) for part in ("errors", "reflex_reason")
    ]
    mode = packet[OFFSETS["robot_mode"]]
    present = [now or (mode == Mode.REFLEX and then) for now, then in zip(*flags, strict=True)]
    return State(
        message_id,
        mode,
        packet[OFFSETS["motion_generator_mode"]],
        struct.unpack_from("<7f", packet, OFFSETS["q"]),
        struct.unpack_from("<7f", packet, OFFSETS["q_d"]),
        tuple(name for name, is_on in zip(ERRORS, present, strict=True) if is_on),
    )
