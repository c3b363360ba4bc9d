"""CiA 402 drives on one CAN bus, triggered by SYNC (CiA 301 and CiA 402, IEC 61800-7-201)."""

from .drives import Drives
from .options import DriveOptions

__all__ = ["DriveOptions", "Drives"]
