"""The choices of a person for a LeRobot dataset."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LeRobotOptions:
    """Choices that hold for all episodes."""

    task: str
    """the text that a policy is told"""
    action: str = "applied"
    """`applied`: what the robot did, or `requested`: what the policy asked for"""
    state: tuple[str, ...] = ()
    """fields of `observation.state`, each SENSOR.FIELD, or SENSOR for all of it; none: all"""
    images: str = "video"
    """`video`, `png`: in the table, without loss, or `none`"""
    every: int = 1
    """each so many-th frame is a row"""
    outcomes: tuple[str, ...] = ()
    """of the episodes that are taken; none: all but discarded ones"""
    complete: bool = False
    """an episode begins with the first sample of every sensor, and ends with the last act"""
    fill_absent: bool = False
    """an absent stamp is the lowest number and not null"""
