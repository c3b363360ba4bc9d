"""The variables of RTDE that the emulated controller has: their types, and how they are packed.

Source: Universal Robots, "Real-Time Data Exchange (RTDE) Guide", tables of inputs and outputs.
"""

import struct
from collections.abc import Mapping, Sequence

FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT32": "I",
    "UINT64": "Q",
    "INT32": "i",
    "DOUBLE": "d",
    "VECTOR3D": "3d",
    "VECTOR6D": "6d",
    "VECTOR6INT32": "6i",
    "VECTOR6UINT32": "6I",
}
OUTPUTS = {
    "timestamp": "DOUBLE",
    **dict.fromkeys(
        (
            *(f"target_{name}" for name in ("q", "qd", "qdd", "current", "moment")),
            *(f"actual_{name}" for name in ("q", "qd", "current", "joint_voltage")),
            *("joint_control_output", "joint_temperatures", "actual_TCP_pose", "actual_TCP_speed"),
            *("actual_TCP_force", "target_TCP_pose", "target_TCP_speed", "ft_raw_wrench"),
            *("tcp_offset", "payload_inertia"),
        ),
        "VECTOR6D",
    ),
    **dict.fromkeys(
        (
            *("actual_execution_time", "speed_scaling", "target_speed_fraction", "payload"),
            *("actual_momentum", "actual_main_voltage", "actual_robot_voltage"),
            *("actual_robot_current", "standard_analog_input0", "standard_analog_input1"),
            *("standard_analog_output0", "standard_analog_output1"),
            *(f"output_double_register_{n}" for n in range(48)),
        ),
        "DOUBLE",
    ),
    **dict.fromkeys(
        ("actual_tool_accelerometer", "payload_cog", "elbow_position", "elbow_velocity"),
        "VECTOR3D",
    ),
    **dict.fromkeys(("actual_digital_input_bits", "actual_digital_output_bits"), "UINT64"),
    **dict.fromkeys(
        ("runtime_state", "robot_status_bits", "safety_status_bits", "output_bit_registers0_to_31",
         "output_bit_registers32_to_63"),
        "UINT32",
    ),
    **dict.fromkeys(
        ("robot_mode", "safety_mode", "safety_status",
         *(f"output_int_register_{n}" for n in range(48))),
        "INT32",
    ),
    "joint_mode": "VECTOR6INT32",
}  # fmt: skip
INPUTS = {
    **{f"input_double_register_{n}": "DOUBLE" for n in range(48)},
    **{f"input_int_register_{n}": "INT32" for n in range(48)},
    "speed_slider_mask": "UINT32",
    "speed_slider_fraction": "DOUBLE",
}

Value = bool | float | Sequence[float]


class Recipe:
    """Variables that go in one packet, in their order."""

    def __init__(self, names: Sequence[str], known: Mapping[str, str]) -> None:
        self.names = list(names)
        self.types = [known.get(name, "NOT_FOUND") for name in names]
        self.is_known = "NOT_FOUND" not in self.types
        self._struct = struct.Struct(">" + "".join(FORMATS.get(one, "") for one in self.types))

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return self._struct.size

    def pack(self, values: Mapping[str, Value]) -> bytes:
        """The values as they are in a packet; one that is not given is 0."""
        flat: list[float] = []
        for name, kind in zip(self.names, self.types, strict=True):
            count = int("".join(filter(str.isdigit, FORMATS[kind])) or 1)
            value = values.get(name, 0.0 if count == 1 else (0.0,) * count)
            numbers = [value] if isinstance(value, bool | int | float) else list(value)
            is_real = FORMATS[kind].endswith("d")
            flat += numbers if is_real else [int(number) for number in numbers]
        return self._struct.pack(*flat)

    def unpack(self, payload: bytes) -> dict[str, float]:
        """The values of a packet of scalars, by name."""
        return dict(zip(self.names, self._struct.unpack(payload), strict=True))
