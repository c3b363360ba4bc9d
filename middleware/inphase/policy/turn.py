"""A policy's turn at a frame: the schedule's policy is called, and its answer is taken.

A policy is a function or an object called with a frame. It returns a command: an array of all
actuators' channels in schedule order, or a dict of actuator name to array, in SI. None is no
command. With `chunk = H` it returns H of them: arrays of H rows.

A class is made once, with the schedule's `args`. Before the first cycle its `warm_up(frame)` is
called, if it has one, with a frame of zeros, and then its `reset()`.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar

from inphase.devices.packets import Refusal
from inphase.errors import ScheduleError
from inphase.frames import zero_frame
from inphase.frames.frame import Frame
from inphase.frames.layout import Layout
from inphase.frames.shaping import NotThere, Shaping
from inphase.frames.store_follower import StoreFollower
from inphase.policy.command_buffer import CommandBuffer
from inphase.policy.foresight import Foresight
from inphase.policy.remarks import LONG_NS, Remarks
from inphase.schedule import Schedule, import_by_name

if TYPE_CHECKING:
    from inphase.models.model_binding import Binding
    from inphase.policy import model_policy

PolicyCall = Callable[[Frame], Any]
_TIMES = 4096


class Ended(SystemExit):
    """The policy's process was told to end, wherever its policy is."""


def load(described: Schedule, layout: Layout | None = None) -> PolicyCall:
    """Import and make the schedule's policy, let it warm up on a frame of that layout, and reset
    it. Raises ScheduleError."""
    assert described.policy is not None and described.policy.call is not None
    args = described.policy.args  # a key with a fault ends it here
    try:
        found = import_by_name.resolve_call(described.policy.call, described.path.parent)
        if isinstance(found, type):
            found = found(**args)
    except ScheduleError as error:
        raise described.error("policy.call", str(error)) from error
    except Ended:
        raise
    except (Exception, SystemExit) as error:
        raise described.error(
            "policy.args", f"{described.policy.call} cannot be constructed: {error!r}; correct args"
        ) from error
    if not callable(found):
        raise described.error("policy.call", f"{described.policy.call} {_uncallable(found)}")
    try:
        begin(found, layout)
    except Ended:
        raise
    except (Exception, SystemExit) as error:
        raise described.error(
            "policy.call",
            f"{described.policy.call} cannot be warmed up and reset: {error!r}"
            f"{import_by_name.place_of(error)}; correct it",
        ) from error
    return found


def _uncallable(found: object) -> str:
    """The kind of an object that takes no frame, and the remedy."""
    kind = type(found)
    if kind.__module__ == "builtins":
        return f"is of type {kind.__name__}, which is not callable; name a function of a frame"
    return (
        f"is an object of {kind.__name__}, which is not callable; give {kind.__name__} a method "
        f"__call__(self, frame), or name a function of a frame"
    )


def begin(policy: Any, layout: Layout | None) -> PolicyCall:
    """Before a policy's first cycle: its `warm_up` with a frame of zeros, then its `reset`, if it
    has them. A class is made first. Raises whatever they raise."""
    if isinstance(policy, type):
        policy = policy()
    assert callable(policy), f"policy {policy!r} is not callable; give a function of a frame"
    warm_up, reset = getattr(policy, "warm_up", None), getattr(policy, "reset", None)
    if callable(warm_up) and layout is not None:
        warm_up(zero_frame.frame(layout))
    if callable(reset):
        reset()
    call: PolicyCall = policy
    return call


class Turn:
    """One policy's turn at a frame: calls it and says what came of it.

    It is called only when every sensor that the schedule's `accepts` names has one of the statuses
    named there; else the reason is `input`. remarks: takes what it does wrong. raises: the policy's
    errors end the loop, as a test wants it.
    """

    long_ns: ClassVar[int] = LONG_NS
    """a call that takes longer is told; a process that counts its instructions sets it"""

    def __init__(
        self,
        call: PolicyCall,
        buffer: CommandBuffer,
        described: Schedule,
        remarks: Remarks,
        *,
        raises: bool = False,
    ) -> None:
        self._call = call
        self.buffer = buffer
        self._remarks = remarks
        self._raises = raises
        self.took_ns: deque[int] = deque(maxlen=_TIMES)
        """of the newest calls, by this process's clock"""
        self._accepts = dict(described.policy.accepts) if described.policy is not None else {}
        self._shaping = Shaping(described.policy)

    def take(self, frame: Frame) -> str | None:
        """Call the policy; its command is in `buffer`, or the reason why there is none."""
        if self._accepts and not self._is_accepted(frame):
            return "input"
        call = self._call  # found sooner so than as a method
        try:
            if not self._shaping.is_none:
                shaped = self._shaping.shape(frame)
                if shaped is None:
                    return "input"
                frame = shaped
            began_ns = perf_counter_ns()
            answer = call(frame)
            took_ns = perf_counter_ns() - began_ns
            self.took_ns.append(took_ns)
            if took_ns > self.long_ns:
                self._remarks.took(took_ns, frame)
        except NotThere:
            return "input"
        except Ended:
            raise
        except (Exception, SystemExit) as error:  # the policy must not end the loop
            if self._raises:
                raise
            self._remarks.raised(error, frame)
            return "raised"
        trouble = self.buffer.fill(answer)
        if trouble is not None and not isinstance(answer, Refusal):
            self._remarks.no_command(answer, frame)
        return trouble

    def _is_accepted(self, frame: Frame) -> bool:
        return all(frame[name].status in accepted for name, accepted in self._accepts.items())


def every(described: Schedule) -> int:
    """Cycles from one frame that the policy takes to the next."""
    return described.policy.every if described.policy is not None else 1


def valid_ns(described: Schedule) -> int:
    """How long after a frame's due time the answer to it is of use at most, in nanoseconds."""
    period_ns = described.cycle.period_ns
    hold_ns = max((a.max_hold_ns(period_ns) for a in described.actuator.values()), default=0)
    reach = described.policy.reach_cycles if described.policy is not None else 0
    return hold_ns + reach * period_ns


def runs_in_c(described: Schedule) -> bool:
    """True if the schedule's policy is a model that C runs."""
    policy = described.policy
    return policy is not None and policy.model is not None and policy.runtime == "c"


def make_turn(
    described: Schedule,
    follower: StoreFollower,
    buffer: CommandBuffer,
    binding: "Binding | None",
    remarks: Remarks,
    *,
    remote: PolicyCall | None = None,
    count: Callable[[str], None] | None = None,
    raises: bool = False,
    is_confined: bool = True,
) -> "Turn | model_policy.ModelTurn":
    """The turn of the schedule's policy where that runs in Python, at a follower's frames; binding:
    of a model; remote: as `meet` gives it; count: of what a policy server does. Where it is not
    confined, it is told what a run would refuse. Raises ScheduleError."""
    if described.policy is not None and described.policy.server is not None:
        from inphase.policy.openpi.server_policy import ServerPolicy

        waits = remarks.is_virtual
        remote = ServerPolicy(described, follower.layout, remarks, count, waits=waits)
    if remote is not None:
        return Turn(remote, buffer, described, remarks)
    if binding is None and is_confined:
        return Turn(load(described, follower.layout), buffer, described, remarks, raises=raises)
    if binding is None:
        with Foresight(remarks, described) as foresight:
            call = load(described, follower.layout)
        return Turn(foresight.around(call), buffer, described, remarks, raises=raises)
    from inphase.policy import model_policy

    model = network_of(described)(described, binding)
    return model_policy.ModelTurn(model, follower.reader, buffer)


def check_network(described: Schedule, binding: "Binding") -> None:
    """See that what runs the schedule's network takes it. Raises ScheduleError."""
    network_of(described)(described, binding).close()


def network_of(described: Schedule) -> "type[model_policy.Numbers]":
    """The class that runs the schedule's network."""
    from inphase.policy import model_policy  # with all of `models`: for networks alone

    if runs_in_c(described):
        return model_policy.NativeModel
    if described.policy is not None and described.policy.weights is not None:
        from inphase.policy import torch_policy

        return torch_policy.TorchModel
    return model_policy.PythonModel


def binding_of(described: Schedule, follower: StoreFollower) -> "Binding | None":
    assert described.policy is not None
    if not described.policy.is_network:
        return None
    from inphase.policy import model_policy

    return model_policy.bound(described, follower.layout)
