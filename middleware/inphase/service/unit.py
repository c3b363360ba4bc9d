"""A systemd unit that serves robots: with the rights that a cycle needs, and time for its ramp."""

import getpass
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from inphase.schedule import Schedule
from inphase.schedule.motion import park_times

_STOP_S = 20
"""for the ends of all processes, after the longest stop of each robot"""


def unit_of(schedules: Sequence[Schedule], arguments: Sequence[str], speed: float) -> str:
    """The text of a unit that runs `inphase serve` with those arguments, by this user.

    arguments: all that follow `inphase serve`, but for the paths of the schedules. speed: the share
    of the velocity limits that they say.
    """
    paths = [str(one.path.resolve()) for one in schedules]
    command = [str(Path(sys.executable)), "-m", "inphase", "serve", *paths, *arguments]
    line = " ".join(shlex.quote(one).replace("%", "%%") for one in command)
    names = ", ".join(one.name for one in schedules)
    stops_ns = [park_times.longest_stop_ns(one, speed) for one in schedules]
    stop_s = _STOP_S + math.ceil(sum(stops_ns) / 1e9)
    return f"""[Unit]
Description=inphase: {names}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
User={getpass.getuser()}
ExecStart={line}
Restart=on-failure
# the cycle thread: real-time priority, and memory that stays
LimitRTPRIO=95
LimitMEMLOCK=infinity
# SIGTERM to the service alone: it ramps its robots, parks them and ends what it started
KillMode=mixed
TimeoutStopSec={stop_s}
# sockets of this host: for the same user, with XDG_RUNTIME_DIR=/run/inphase
RuntimeDirectory=inphase
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=%t/inphase

[Install]
WantedBy=multi-user.target
"""
