"""`inphase calibrate`: zeros and ranges of joints that a person moves by hand."""

from inphase.command.calibration.calibrating import COMMANDS

__all__ = ["COMMANDS"]
