"""A cycle that a device's packets start, against a bare C loop that answers each packet.

Another process streams over UDP at 500 Hz and takes the time from the sending of a packet to its
answer, less the act offset of 1 ms. Ours is the real core: the grid follows the packets, and an
actuator that holds still writes at the offset. The yardstick waits for a packet, sleeps for the
offset, and answers. Both have the same priority. An answer that is sooner than the offset belongs
to the packet before, and is late by a period; so is one that never comes.
"""

import subprocess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.machine import Options
from benches.native import paced

_PERIOD_US, _ACT_US = 2000, 1000
_PACKETS = 1000
_PRIORITY = 80
_SOONEST_NS = -100_000


def _block(who: str, options: Options) -> NDArray[np.int64]:
    """Lateness of each answer, in ns."""
    packets = 50 if options.smoke else _PACKETS
    priority = _PRIORITY if options.realtime else 0
    command = [str(paced()), who, *map(str, (packets, _PERIOD_US, _ACT_US, priority))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    late = np.array(done.stdout.split(), dtype=np.int64)
    late[(late < _SOONEST_NS) | (late == -1)] += _PERIOD_US * 1000
    return late


def run(options: Options) -> list[dict[str, Any]]:
    """The figure."""
    rounds = Rounds("answer to a packet, less the act offset", judged=("p50", "p99"), goal=1.0)
    for _ in range(options.rounds):
        rounds.add(_block("bare", options), _block("core", options), _block("bare", options))
    result = rounds.result()
    show(result)
    return [result]
