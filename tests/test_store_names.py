"""Finding a robot's store by its name."""

import os

from inphase import store


def test_a_store_that_is_still_being_made_is_not_found() -> None:
    robot = f"making-{os.getpid()}"
    segment = store.Segment.create(store.segment_path(robot, store.new_epoch(), "core"), 8192)
    try:
        assert store.is_alive(segment.path)
        assert store.find(robot) is None
    finally:
        segment.close()
