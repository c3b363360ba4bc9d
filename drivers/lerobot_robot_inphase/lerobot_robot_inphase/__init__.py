"""Any inphase schedule as a robot and a teleoperator of LeRobot.

LeRobot imports this package by itself, and takes the device of a configuration from it by name.
"""

from lerobot_robot_inphase.config_inphase import InphaseLeaderConfig, InphaseRobotConfig
from lerobot_robot_inphase.inphase_leader import InphaseLeader
from lerobot_robot_inphase.inphase_robot import InphaseRobot

__all__ = ["InphaseLeader", "InphaseLeaderConfig", "InphaseRobot", "InphaseRobotConfig"]
