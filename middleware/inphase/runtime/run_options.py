"""The options of one run on the wall clock."""

from dataclasses import dataclass, field
from pathlib import Path

from inphase.recording.recorder_process import RecorderOptions
from inphase.schedule.simulation_tables import Page


@dataclass(frozen=True)
class RunOptions:
    """The options of one run on the wall clock."""

    cycles: int = 0
    """0: until it is stopped"""
    observe: bool = False
    """read and publish, never write to an actuator"""
    client_policy: bool = False
    """whoever asks runs the policy itself, and is given its mailbox"""
    leased: bool = False
    """whoever asks says who may drive, too: it is given the lease page and that of wishes"""
    speed: float = 1.0
    """the share of each velocity limit that is allowed"""
    client_threads: bool = False
    """whoever asks runs the drivers of home `thread` itself"""
    simulate: bool = False
    """in the schedule's world, in real time; no device is touched"""
    page: Page | None = None
    """the place of its web page, and who may sign in; None: as the schedule has it"""
    view: bool = False
    """a window shows that world"""
    record: Path | None = None
    """a file that is made, with all frames of the run"""
    recorder: RecorderOptions = field(default_factory=RecorderOptions)
    """the files of that recording"""
    debug_hold: bool = False
    """the guard stops the devices of a frozen runtime and leaves it alive, for a debugger"""
