"""Notices for a person on a robot's state while it runs, and at the end."""

from inphase.core.core import Core
from inphase.errors import StoreError
from inphase.frames import store
from inphase.frames.frame import Frame
from inphase.frames.record_layout import STATES
from inphase.frames.store_follower import StoreFollower
from inphase.host import store_names
from inphase.plan.plan import Plan
from inphase.runtime.events import Events
from inphase.runtime.guarding.guard import loose_note
from inphase.runtime.words import state_messages
from inphase.runtime.words.policy_notices import PolicyNotices


class Notices:
    """Looks at one robot's status, and tells each thing once. Thread: the supervisor's.

    path: of the robot's store. mailbox: its policy's.
    """

    def __init__(
        self,
        plan: Plan,
        core: Core,
        reader: store.Reader,
        events: Events,
        *,
        path: str,
        mailbox: store.Segment | None = None,
    ) -> None:
        self._plan = plan
        self._core = core
        self._reader = reader
        self._path = path
        self._tell = events.tell
        self.latched = 0
        """number of the reason why motion is latched, as far as it was told; 0: it is not"""
        self._follower: StoreFollower | None = None
        """of the frames that say so, made when there are some"""

        self._policy = PolicyNotices(
            plan,
            events.tell,
            reader.reasons,
            self._newest,
            inference=(lambda: store.inference(mailbox)) if mailbox is not None else lambda: None,
            busy=(lambda: store.busy_ns(mailbox)) if mailbox is not None else lambda: 0,
        )

    def armed(self) -> None:
        """Motion was armed."""
        self._policy.armed()

    def close(self) -> None:
        """Let the store go."""
        if self._follower is not None:
            self._follower.close()

    def latch(self) -> None:
        """Say once what is latched, and what to do."""
        status = self._reader.status()
        if status["latched"] == self.latched:
            return
        self.latched = status["latched"]
        if self.latched:
            self._tell(state_messages.latched(self._plan, status))

    def policy(self) -> None:
        """Say what became of the policy's answers, where it is no good."""
        self._policy.look()

    def _newest(self) -> Frame | None:
        if self._follower is None:
            self._follower = StoreFollower(self._path, from_first=True)
        try:
            return self._follower.next(0, newest=True)
        except (TimeoutError, store.Lost):
            return None

    def end(self, *, simulated: bool) -> None:
        """Say what is not known to be at rest at the end, and leave a note for the next run."""
        if STATES[self._reader.status()["state"]] != "uncontrolled":
            return
        every = list(range(len(self._plan.actuators)))
        loose = [i for i in every if self._core.loose(i)] or every  # none: a ramp was cut
        actuators = [self._plan.actuators[i].name for i in loose]
        self._tell(state_messages.loose(actuators))
        if simulated:
            return  # what moved in the world is gone with it
        cycle = self._reader.status()["cycle"]
        try:
            store_names.leave_note(self._path, loose_note(cycle, actuators))
        except (StoreError, OSError) as error:
            self._tell(f"the next run is not told of it: {error}")
