"""The cycle thread's own time to wake 100 local readers, against one reader.

The readers are processes that wait for each frame through the product's reader; the writer wakes
them as the core's latch does, at the cycle thread's priority, and stamps before and after. With a
policy's bell beside them, and without.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches.distribution import Rounds, show
from benches.latch import Contents, Row, Writer, describe
from benches.machine import Options
from inphase.frames import record_layout, store

_CROWD = 100
_CYCLES = 200
_ROW = Row("crowd", 1, 64, 5000, _CYCLES)
_SETTLE_S = 0.3  # until all of them wait


def _measure(name: str, options: Options, has_policy: bool) -> dict[str, Any]:
    figure = Rounds(f"the writer's wake of {_CROWD} readers, {name}", goal=1.2)
    epoch = store.new_epoch()
    record = record_layout.HEADER.size + _ROW.sensors * record_layout.ROW.size
    writer = Writer(options, Contents(epoch, describe(_ROW, epoch), [_ROW.payload], record))
    if has_policy:
        writer.mailbox(1)

    def block(readers: int) -> NDArray[np.int64]:
        with writer.followers(readers):
            time.sleep(_SETTLE_S)
            return writer.wakes_block(_ROW.period_us, _CYCLES)

    block(1)
    for _ in range(options.rounds):
        figure.add(block(1), block(_CROWD), block(1))
    writer.close()
    result = figure.result()
    show(result)
    return result


def run(options: Options) -> list[dict[str, Any]]:
    """Without a policy and with one."""
    return [
        _measure("no policy", options, has_policy=False),
        _measure("a policy's bell beside them", options, has_policy=True),
    ]
