"""The options of a robot and of a leader: `--robot.type=inphase --robot.schedule=FILE`."""

from dataclasses import dataclass, field
from pathlib import Path

from lerobot.robots.config import RobotConfig
from lerobot.teleoperators.config import TeleoperatorConfig


@RobotConfig.register_subclass("inphase")
@dataclass(kw_only=True)
class InphaseRobotConfig(RobotConfig):
    """A robot of a schedule; its `[policy]` is not used."""

    schedule: Path
    simulate: bool = False
    """in the schedule's simulated world, in real time"""
    observe: list[str] = field(default_factory=list)
    """SENSOR, or SENSOR.FIELD; none: all"""
    accepts: list[str] = field(default_factory=lambda: ["FRESH", "HELD", "LATE"])
    """statuses of the samples that LeRobot is given; it cannot be told a status"""
    patience_s: float = 1.0
    """for which a sample of another status is waited for; then ConnectionError is raised"""
    hold_s: float = 0.5
    """for which an action counts; then the robot comes to rest, until the next one"""
    catch_up: float = 0.5
    """rad/s or m/s: so quickly joints in position mode go to the first action"""


@TeleoperatorConfig.register_subclass("inphase")
@dataclass(kw_only=True)
class InphaseLeaderConfig(TeleoperatorConfig):
    """A leader arm of a schedule: a sensor of positions, which are the positions to command."""

    schedule: Path
    simulate: bool = False
    """in the schedule's simulated world, in real time"""
    leader: str = "leader"
    """the sensor, with the field `position`"""
    arm: str = "arm"
    """the actuator whose names the action has"""
    patience_s: float = 1.0
    """for which a sample that is FRESH or HELD is waited for; then ConnectionError is raised"""
