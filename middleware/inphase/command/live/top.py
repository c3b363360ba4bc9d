"""The live table of a robot that somebody else runs, for `inphase top`."""

import contextlib
import time
from pathlib import Path

from inphase.command.live.counted import Counted, CountedByCore, CountedInFrames
from inphase.command.live.live_view import LiveView
from inphase.command.live.watch import Watch
from inphase.command.pictures import shown_actuator
from inphase.errors import StoreError
from inphase.frames import store
from inphase.frames.subscription import Subscription, Transport, subscribe

_LOOK_S = 0.1


class OthersRobot:
    """A robot that is followed by its store, or over ZeroMQ."""

    mailbox = None

    def __init__(self, source: Subscription) -> None:
        # a replay has a store without a core
        reader = None if "replay" in source.description else source.store
        counted: Counted = CountedInFrames(len(source.layout.sensors))
        if reader is not None:
            counted = CountedByCore(reader)
        self.seen = Watch(source, counted, shown_actuator.of_description(source.description))

    def watch(self) -> Watch:
        """Its frames from now on."""
        return self.seen


def top(endpoint: str, transport: Transport, key: Path | None = None) -> None:
    """Show a robot until its end or ^C. key: a client file.

    Raises AccessError. Raises StoreError where there is none or it gave no frame, and WireError.
    """
    try:
        source = subscribe(endpoint, transport=transport, key=key)
    except TimeoutError as error:
        raise StoreError(str(error)) from error
    robot, seen = source.layout.robot, OthersRobot(source)
    watch = seen.watch()
    with LiveView(shown=True) as view:
        view.say(f"{robot} by {source.transport}; ^C ends this view, and not the robot")
        with view.watching(seen), contextlib.suppress(KeyboardInterrupt):
            while watch.end is None:
                time.sleep(_LOOK_S)
        newest = watch.newest
        if watch.end is not None and newest is not None:
            reason = "" if newest.reason == "none" else f", {newest.reason}"
            view.say(f"{robot} {newest.state}{reason}, in cycle {newest.cycle}: {watch.end}")
    if watch.end is not None and not isinstance(watch.end, store.Lost):
        raise watch.end
    if newest is None:
        raise StoreError(f"{endpoint} gave no frame; is it held up, or did it end?")
