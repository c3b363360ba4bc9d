"""The record of a frame: which field lies where, and the names of its numbers.

A record is struct inphase_frame of native/inphase.h (the header), a struct inphase_row per sensor,
and per actuator a struct inphase_act with the values that were requested and applied, float64.
Little-endian, without padding. Everybody who looks into a record asks this module;
tests/test_record.py compares each offset and each name with the C header.
"""

from collections.abc import Callable, Sequence
from struct import Struct

ABSENT = -0x7FFFFFFFFFFFFFFF
"""a stamp that is not known"""
Word = Callable[..., tuple[int]]
"""takes one field out of a record, from an offset on"""
VALUE_BYTES = 8
"""of one requested or applied value"""


class Fields:
    """A C struct: its fields by name, in order, with their codes of the module struct."""

    def __init__(self, **codes: str) -> None:
        self.names = tuple(codes)
        self.codes = codes
        packed = Struct("<" + "".join(codes.values()))
        self.size = packed.size
        self.pack, self.pack_into = packed.pack, packed.pack_into
        self.unpack, self.unpack_from = packed.unpack, packed.unpack_from
        self.iter_unpack = packed.iter_unpack

    def index(self, name: str) -> int:
        """Which of the unpacked values a field is."""
        return self.names.index(name)

    def values(self, **known: int) -> tuple[int, ...]:
        """One for each field, in order; 0 for those that are not given."""
        assert known.keys() <= self.codes.keys(), known
        return tuple(known.get(name, 0) for name in self.names)

    def offset(self, name: str) -> int:
        """Where a field starts, in bytes."""
        return Struct("<" + "".join(list(self.codes.values())[: self.index(name)])).size

    def word(self, name: str) -> Word:
        """Takes one field out of a record, given where the struct starts: by itself it is sooner
        read than all of them."""
        return Struct(f"<{self.offset(name)}x{self.codes[name]}").unpack_from

    def only(self, *names: str) -> str:
        """The format that takes these fields, in the struct's order, and passes over all others."""
        assert names == tuple(name for name in self.names if name in names), names
        return "".join(
            code if name in names else f"{Struct(code).size}x" for name, code in self.codes.items()
        )


HEADER = Fields(
    cycle="q",
    due_ns="q",
    woke_ns="q",
    triggered_ns="q",
    latched_ns="q",
    skew_ns="q",
    acted_cycle="q",
    acted_ns="q",
    inferred_ns="q",
    inference_ns="q",
    answered_cycle="q",
    reason_cycle="q",
    flags="I",
    skipped="I",
    reason="I",
    detail="I",
    state="I",
    estop="I",
    episode="I",
    outcome="I",
    lease="I",
    drove="I",
)
"""struct inphase_frame"""
ROW = Fields(
    sequence="q",
    cycle="q",
    triggered_ns="q",
    acquired_ns="q",
    received_ns="q",
    age_ns="q",
    uncertainty_ns="q",
    status="H",
    reason="H",
    detail="I",
)
"""struct inphase_row, of one sensor"""
ACT = Fields(flags="I", reason="I", channels="I", detail="I")
"""struct inphase_act, of one actuator; its requested values follow, then those applied"""


class RecordLayout:
    """Where the parts of a robot's records lie: offsets in bytes."""

    def __init__(self, sensors: int, channels: Sequence[int]) -> None:
        """channels: of each actuator."""
        self.sensors = sensors
        self.channels = tuple(channels)
        self.rows = HEADER.size
        self.acts = HEADER.size + sensors * ROW.size
        act_sizes = [ACT.size + 2 * VALUE_BYTES * count for count in channels]
        self._act = [self.acts + sum(act_sizes[:index]) for index in range(len(act_sizes))]
        self.size = self.acts + sum(act_sizes)
        self.sequences = Struct(f"<{HEADER.size}x{ROW.only('sequence') * sensors}")
        """takes each sample's sequence number out of a record"""

    def row(self, sensor: int) -> int:
        """Where a sensor's row starts."""
        return self.rows + sensor * ROW.size

    def act(self, actuator: int) -> int:
        """Where an actuator's act starts."""
        return self._act[actuator]

    def requested(self, actuator: int) -> int:
        """Where the values that were requested of an actuator start."""
        return self._act[actuator] + ACT.size

    def applied(self, actuator: int) -> int:
        """Where the values that were applied start."""
        return self.requested(actuator) + VALUE_BYTES * self.channels[actuator]

    def only(
        self, header: Sequence[str], row: Sequence[str] = (), act: Sequence[str] | None = None
    ) -> Struct:
        """Takes these fields out of a record: of the header, of each row, of each act; act None:
        up to the last row."""
        acts = "".join(
            f"{ACT.only(*act)}{2 * VALUE_BYTES * count}x" for count in self.channels
        ) if act is not None else ""  # fmt: skip
        return Struct(f"<{HEADER.only(*header)}{ROW.only(*row) * self.sensors}{acts}")


_cycle = Struct(f"<{HEADER.only('cycle')}")


def cycle_of(record: bytes) -> int:
    """The number of a record's cycle."""
    number: int = _cycle.unpack_from(record)[0]
    return number


# ---- names of numbers --------------------------------------------------------------------------

STATES = (
    "configured",
    "opened",
    "armed",
    "running",
    "ramping",
    "faulted",
    "stopped",
    "uncontrolled",
)
"""of a robot; STATES.md has the transitions"""
STATUSES = ("FRESH", "HELD", "LATE", "MISSING", "FROZEN", "INVALID", "OFFLINE", "RECOVERING")
FRAME_FLAGS = (
    "OVERRUN",
    "SKIPPED",
    "RESUMED",
    "NOT_REALTIME",
    "PAGE_FAULTS",
    "OBSERVING",
    "LATCHED",
    "STOPPING",
    "CLOCK_STEP",
    "LIMITED",
    "REPEATED",
    "RAMPING",
    "ESTOP",
    "STOPPED",
    "UNPACED",
)
ACT_FLAGS = (
    "WRITTEN",
    "LIMITED",
    "REPEATED",
    "RAMPING",
    "HOLDING",
    "INVALID",
    "MISSED",
    "STARVED",
    "COASTING",
    "APPROACHING",
)
OUTCOMES = ("none", "running", "ended", "success", "failure", "discarded")
"""of an episode"""
SERVER_COUNTS = (
    "connected",
    "unreached",
    "lost",
    "stalled",
    "errors",
    "malformed",
    "answers",
)
"""Counts of a policy server, by number: INPHASE_SERVER_*."""
HISTOGRAMS = ("wake_late_ns", "trigger_late_ns", "act_late_ns", "skew_ns", "latch_to_command_ns")
"""of the core, by number; those of sensors follow"""
LATE_PHASES = ("wake", "trigger", "read", "act", "latch", "overrun", "command")
"""of a late cycle, by number; the first four are INPHASE_PHASE_*"""
CAUSES = ("not known", "host", "kernel", "other process", "ours")
"""of a late cycle, by number"""
WHYS = (
    "unseen",
    "busy",
    "stolen",
    "interrupts",
    "kernel thread",
    "not preemptible",
    "disk",
    "preempted",
    "stopped",
    "peer stopped",
    "own code",
    "own process",
    "page faults",
    "device",
    "policy",
    "policy threads",
    "policy faults",
)
"""what was seen of a late cycle's cause, by number"""
DROVE = ("nobody", "policy", "client", "person")
"""who gave the command of an act"""
REASONS = (
    "none",
    "checksum",
    "size",
    "mismatch",
    "device",
    "nan",
    "range",
    "rate",
    "shape",
    "raised",
    "died",
    "silent",
    "start",
    "feedback",
    "offline",
    "resumed",
    "overrun",
    "signal",
    "done",
    "request",
    "busy",
    "expired",
    "parent",
    "gateway",
    "input",
    "slip",
    "watchdog",
    "bus_off",
    "world",
    "workspace",
    "estop",
    "dropped",
    "unguarded",
    "moving",
    "state",
    "stamp",
    "supervisor",
    "rest",
    "guard",
    "lease",
    "pace",
)
"""Names of INPHASE_REASON_*, by number."""


def name_of(number: int, names: Sequence[str]) -> str:
    """The name of a number; one that this version does not know says so."""
    return names[number] if 0 <= number < len(names) else f"unknown ({number})"


def names_of(flags: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the bits that are set, lowest first."""
    return tuple(name for bit, name in enumerate(names) if flags >> bit & 1)
