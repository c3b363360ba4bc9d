"""The models of servos that the driver knows, by model number (register 0), and their units.

Sources: ROBOTIS e-manual, the control table of each model; Dynamixel2Arduino, its table of units.
All of them have 4096 counts per turn, and 0.229 rev/min per count of velocity.
"""

from typing import Literal, NamedTuple

ModelName = Literal[
    "MX-28",
    "MX-64",
    "MX-106",
    "XH430-W350",
    "XD430-T350",
    "XH430-W210",
    "XD430-T210",
    "XM430-W350",
    "XM430-W210",
    "XH430-V350",
    "XH430-V210",
    "XL430-W250",
    "XC430-W150",
    "XC430-W240",
    "2XL430-W250",
    "XH540-W270",
    "XD540-T270",
    "XH540-W150",
    "XD540-T150",
    "XM540-W270",
    "XM540-W150",
    "XH540-V270",
    "XH540-V150",
    "2XC430-W250",
    "XW540-T260",
    "XW540-T140",
    "XL330-M077",
    "XL330-M288",
    "XC330-T181",
    "XC330-T288",
    "XC330-M181",
    "XC330-M288",
    "XW430-T333",
    "XW430-T200",
]


class Model(NamedTuple):
    """One model of servo."""

    number: int
    """of register 0"""
    name: ModelName
    a_per_count: float | None
    """of registers 38, 102 and 126, A; None: it measures load in 126, and follows no current"""


LOAD_PER_COUNT = 1e-3  # of register 126, of the largest torque
_MODELS = (
    Model(30, "MX-28", None),
    Model(311, "MX-64", 3.36e-3),
    Model(321, "MX-106", 3.36e-3),
    Model(1000, "XH430-W350", 2.69e-3),
    Model(1001, "XD430-T350", 2.69e-3),
    Model(1010, "XH430-W210", 2.69e-3),
    Model(1011, "XD430-T210", 2.69e-3),
    Model(1020, "XM430-W350", 2.69e-3),
    Model(1030, "XM430-W210", 2.69e-3),
    Model(1040, "XH430-V350", 1.34e-3),
    Model(1050, "XH430-V210", 1.34e-3),
    Model(1060, "XL430-W250", None),
    Model(1070, "XC430-W150", None),
    Model(1080, "XC430-W240", None),
    Model(1090, "2XL430-W250", None),
    Model(1100, "XH540-W270", 2.69e-3),
    Model(1101, "XD540-T270", 2.69e-3),
    Model(1110, "XH540-W150", 2.69e-3),
    Model(1111, "XD540-T150", 2.69e-3),
    Model(1120, "XM540-W270", 2.69e-3),
    Model(1130, "XM540-W150", 2.69e-3),
    Model(1140, "XH540-V270", 2.69e-3),
    Model(1150, "XH540-V150", 2.69e-3),
    Model(1160, "2XC430-W250", None),
    Model(1170, "XW540-T260", 2.69e-3),
    Model(1180, "XW540-T140", 2.69e-3),
    Model(1190, "XL330-M077", 1e-3),
    Model(1200, "XL330-M288", 1e-3),
    Model(1210, "XC330-T181", 1e-3),
    Model(1220, "XC330-T288", 1e-3),
    Model(1230, "XC330-M181", 1e-3),
    Model(1240, "XC330-M288", 1e-3),
    Model(1270, "XW430-T333", 2.69e-3),
    Model(1280, "XW430-T200", 2.69e-3),
)
BY_NUMBER = {model.number: model for model in _MODELS}
BY_NAME: dict[str, Model] = {model.name: model for model in _MODELS}
USUAL = BY_NAME["XM430-W350"]
"""whose units count in a plan, until the servos are asked"""
