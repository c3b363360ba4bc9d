"""A robot's frames from afar in a store on this host, so that whoever reads stores reads them."""

from typing import Any

from inphase.core.played_store import PlayedStore
from inphase.frames import store
from inphase.frames.frame import Frame, FrameLost
from inphase.frames.layout import Layout
from inphase.frames.store_follower import StoreFollower


class FrameMirror:
    """Puts frame after frame into a store of its own. Thread: one at a time; its maker closes it.

    Stamps stay those of the robot's clock. A sample that did not come is none in the store either.
    Raises StoreError.
    """

    def __init__(self, layout: Layout, description: dict[str, Any]) -> None:
        self._layout = layout
        self._store = PlayedStore(layout, description | {"epoch": store.new_epoch()})
        self._given = [-1] * len(layout.sensors)
        self.follower = StoreFollower(self._store.path)
        """of the frames here"""

    def take(self, frame: Frame) -> Frame:
        """The same frame, in the store."""
        for index, name in enumerate(self._layout.sensors):
            sequence = frame[name].sequence
            if sequence < 0 or sequence == self._given[index]:
                continue
            try:
                value = frame.payloads.view(index, sequence)
            except FrameLost:
                continue
            self._given[index] = sequence
            self._store.put_sample(index, sequence, value.tobytes())
        self._store.publish(frame.record)
        return self.follower.next(newest=True)

    def close(self) -> None:
        """End it."""
        self.follower.close()
        self._store.close()
