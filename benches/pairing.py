"""Four free-running sensors paired by message_filters' ApproximateTimeSynchronizer, if it is here.

    python -m benches.pairing SETS

Run as a process of its own, with Debian's packages (apt-get install python3-message-filters) on its
path. Prints JSON: the skew of each set in nanoseconds, CPU time, samples and how many are in a set.
"""

import json
import random
import sys
import time
from typing import Any

SENSORS = 4
PERIOD_NS = 10_000_000
_JITTER_NS = 1_000_000
_DRIFT = 50e-6
_SLOP_S = 0.02
_QUEUE = 10
_SEED = 7


class Message:
    """What the synchronizer looks at."""

    def __init__(self, stamp: Any) -> None:
        self.header = self
        self.stamp = stamp


def arrivals(sets: int) -> list[tuple[int, int, int]]:
    """(arrival, stamp, sensor): each on its own clock and phase, each late by its own jitter."""
    draws = random.Random(_SEED)
    found = []
    for sensor in range(SENSORS):
        phase_ns = draws.randrange(PERIOD_NS)
        period_ns = PERIOD_NS * (1 + draws.uniform(-_DRIFT, _DRIFT))
        for n in range(sets):
            stamp_ns = int(phase_ns + n * period_ns + draws.gauss(0, _JITTER_NS / 3))
            found.append((stamp_ns + draws.randrange(_JITTER_NS), stamp_ns, sensor))
    return sorted(found)


def main() -> None:
    """Pair them all."""
    import message_filters
    import rospy

    rospy.rostime.set_rostime_initialized(True)
    inputs = [message_filters.SimpleFilter() for _ in range(SENSORS)]
    skews: list[int] = []

    def take(*messages: Message) -> None:
        stamps = [message.stamp.to_nsec() for message in messages]
        skews.append(max(stamps) - min(stamps))

    message_filters.ApproximateTimeSynchronizer(inputs, _QUEUE, _SLOP_S).registerCallback(take)
    coming = [
        (sensor, Message(rospy.Time(nsecs=stamp_ns)))
        for _, stamp_ns, sensor in arrivals(int(sys.argv[1]))
    ]
    cpu_ns = time.thread_time_ns()
    for sensor, message in coming:
        inputs[sensor].signalMessage(message)
    cpu_ns = time.thread_time_ns() - cpu_ns
    print(json.dumps({"skew_ns": skews, "cpu_ns": cpu_ns, "samples": len(coming)}))


if __name__ == "__main__":
    main()
