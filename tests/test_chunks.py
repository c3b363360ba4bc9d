"""When a policy's answers act: at what offset, in chunks, joined and interpolated."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep, sum_up
from inphase.episodes.runner import Runner
from inphase.errors import ScheduleError
from inphase.frame import Frame
from inphase.plan import plan as planning
from inphase.schedule import Schedule
from inphase_drivers.emulator.arm import START_RAD
from peers import BOUND_S
from robots import demo_schedule

JOINTS = 6
START = np.array([0.3, -0.6, 0.9, -0.2, 0.5, 0.1])
UNIT = 1e-7  # so small that the limiter lets every command through
ENTRIES = 64

CHUNKS = """
import numpy as np
def policy(frame):
    return np.array({start}) + ((frame.cycle * 64 + np.arange(10)) * 1e-7)[:, None]
"""


def schedule(
    folder: Path, inference_ms: str | float = 0.1, *, call: str | None = None, **keys: Any
) -> Schedule:
    """The demo with these keys of [policy], and a policy that takes so long."""
    path = demo_schedule(folder, policy=call)
    said = [f"{key} = {value!r}" for key, value in keys.items()]
    timing = f"\n[timing]\npolicy.inference_ms = {inference_ms}\n"
    path.write_text("\n".join([path.read_text().rstrip(), *said, timing]).replace("'", '"'))
    return schedules.load(path)


def numbered(described: Schedule) -> Callable[[Frame], Any]:
    """A policy whose commands say which frame they answer, and which of the chunk they are."""
    assert described.policy is not None
    chunk = described.policy.chunk

    def call(frame: Frame) -> Any:
        numbers = (frame.cycle * ENTRIES + np.arange(chunk)) * UNIT
        return (START + numbers[:, None]) if chunk > 1 else START + numbers[0]

    return call


@dataclass
class Act:
    """What a cycle was commanded."""

    cycle: int
    requested: NDArray[np.float64]
    flags: tuple[str, ...]
    reason: str

    @property
    def source(self) -> tuple[int, int] | None:
        """The frame that was answered, and the number in its chunk; None: no command."""
        if np.isnan(self.requested).any():
            return None
        code = round(float(self.requested[0] - START[0]) / UNIT)
        return divmod(code, ENTRIES)


def acts(robot: LockStep, cycles: int, latched_ns: list[int] | None = None) -> list[Act]:
    """Run so many cycles; what was commanded in all but the last. latched_ns: gets every latch."""
    found: list[Act] = []
    latches: list[int] = [] if latched_ns is None else latched_ns
    for _ in range(-(-cycles // 32)):
        robot.run(32)
        newest = robot.core.frames - 1
        for number in range(max(0, newest - 40), newest + 1):
            record = robot.follower.reader.past(number)
            assert record is not None
            frame = Frame(robot.follower.layout, record, robot.follower)
            act, cycle = frame.command["arm"], frame.command.cycle
            if frame.cycle == len(latches):
                latches.append(frame.latched_ns)
            if cycle > (found[-1].cycle if found else -1):
                found.append(Act(cycle, act.requested, act.flags, act.reason))
    assert [act.cycle for act in found] == list(range(len(found)))
    return found


def run(described: Schedule, cycles: int, call: Any = None) -> tuple[list[Act], dict[str, int]]:
    """The acts of a run, and its counts."""
    with LockStep(described, call=call or numbered(described), digest=False) as robot:
        return acts(robot, cycles), robot.follower.reader.counts()


# ---- when --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inference_ms", [0.1, 1.0, 2.5, 6.6, 8.4])
def test_an_answer_acts_at_a_constant_offset_whatever_it_took(
    tmp_path: Path, inference_ms: float
) -> None:
    described = schedule(tmp_path, inference_ms, every=5, latency_cycles=4)
    found, counts = run(described, 192)
    for act in found:
        if act.cycle < 4:
            assert act.source is None and "MISSED" in act.flags
        else:
            assert act.source == ((act.cycle - 4) // 5 * 5, 0)
    assert counts["late_answers"] == 0 and counts["missed"] == 4


@dataclass
class Answer:
    """One of a server that takes the newest due frame as soon as it is free."""

    frame: int
    there_ns: int


def served(every: int, inference_ns: int, latched_ns: list[int]) -> list[Answer]:
    """What such a server answers, by arithmetic alone. latched_ns: of every frame."""
    answers: list[Answer] = []
    due = range(0, len(latched_ns), every)
    free_ns, taken = 0, -1
    while left := [n for n in due if n > taken]:
        there = [n for n in left if latched_ns[n] <= free_ns]
        taken = there[-1] if there else left[0]
        free_ns = max(free_ns, latched_ns[taken]) + inference_ns
        answers.append(Answer(taken, free_ns))
    return answers


def expected(described: Schedule, answers: list[Answer], cycle: int) -> tuple[int, int] | None:
    """The newest answer that is there at the act of a cycle, as far as it is for that cycle."""
    policy = described.policy
    assert policy is not None
    act_ns = cycle * described.cycle.period_ns + described.cycle.act_ns
    best = None
    for answer in answers:
        since = cycle - answer.frame - policy.latency_cycles
        covered = 0 <= since < policy.chunk * policy.spacing
        if covered and answer.there_ns <= act_ns:
            best = (answer.frame, since // policy.spacing)
    return best


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"every": 3},
        {"every": 4, "latency_cycles": 3},
        {"latency_cycles": 6},
        {"every": 4, "chunk": 12},
        {"every": 4, "chunk": 6, "chunk_every": 2, "latency_cycles": 2},
    ],
    ids=str,
)
def test_an_answer_that_is_late_by_so_much_acts_that_much_later_at_every_phase(
    tmp_path: Path, keys: dict[str, int]
) -> None:
    """Inference times from within the cycle to more than an answer is good for."""
    for inference_ms in np.arange(0.13, 30, 1.37):
        described = schedule(tmp_path, float(inference_ms), **keys)
        latched_ns: list[int] = []
        with LockStep(described, call=numbered(described), digest=False) as robot:
            found = acts(robot, 128, latched_ns)
            counts = robot.follower.reader.counts()
        answers = served(keys.get("every", 1), round(inference_ms * 1e6), latched_ns)
        said = [act.source for act in found]
        assert said == [expected(described, answers, cycle) for cycle in range(len(found))]
        assert counts["missed"] + counts["commands"] == 128


def test_what_is_late_is_dropped_as_far_as_its_cycles_have_passed(tmp_path: Path) -> None:
    described = schedule(tmp_path, 6.0, every=4, chunk=8)
    found, counts = run(described, 128)
    answered = 128 // 4
    assert counts["late_answers"] == answered and counts["stale"] == 3 * answered
    assert counts["starved"] == 0
    assert all(
        act.source == ((act.cycle - 3) // 4 * 4, (act.cycle - 3) % 4 + 3) for act in found[3:]
    )


def test_a_chunk_that_runs_out_is_starving_and_said_so(tmp_path: Path) -> None:
    described = schedule(tmp_path, 19.0, every=4, chunk=12)
    found, counts = run(described, 128)
    gap = [act for act in found if 20 <= act.cycle < 38]
    assert found[19].source == (8, 11) and found[38].source == (28, 10)
    assert all(act.source is None and "MISSED" in act.flags for act in gap)
    assert "REPEATED" in gap[0].flags and "RAMPING" in gap[-1].flags
    assert counts["starved"] == counts["missed"] - 9


def test_the_summary_has_the_counts(tmp_path: Path) -> None:
    described = schedule(tmp_path, 6.0, every=4, chunk=8)
    with LockStep(described, call=numbered(described)) as robot:
        robot.run(40)
        policy = sum_up(robot)["policy"]
    assert policy["late_answers"] == 10 and policy["stale"] == 30
    assert policy["refused_answers"] == policy["starved"] == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_command_is_ever_of_another_cycle(data: st.DataObject) -> None:
    spacing = data.draw(st.integers(1, 4), "chunk_every")
    every = spacing * data.draw(st.integers(1, 4), "every / chunk_every")
    least = -(-every // spacing)
    chunk = data.draw(st.integers(max(2, least), least + 8), "chunk")
    keys = {
        "every": every,
        "chunk": chunk,
        "chunk_every": spacing,
        "latency_cycles": data.draw(st.integers(0, 9), "latency_cycles"),
        "join": data.draw(st.sampled_from(["switch", "freeze"]), "join"),
    }
    low, high = sorted(data.draw(st.tuples(st.floats(0, 30), st.floats(0, 30)), "inference_ms"))
    with tempfile.TemporaryDirectory() as folder:
        described = schedule(Path(folder), f"{{ uniform = [{low}, {high + 0.1}] }}", **keys)
    found, counts = run(described, 96)
    for act in found:
        if act.source is not None:
            frame, entry = act.source
            first = frame + keys["latency_cycles"] + entry * spacing
            assert frame % every == 0 and entry < chunk
            assert first <= act.cycle < first + spacing
    assert counts["refused_answers"] == 0
    assert counts["commands"] + counts["missed"] == 96


# ---- what is asked between two commands ----------------------------------------------------------


class Random:
    """Chunks near the start, remembered."""

    def __init__(self, described: Schedule, seed: int) -> None:
        assert described.policy is not None
        self.policy = described.policy
        self.generator = np.random.default_rng(seed)
        self.entries: dict[int, list[NDArray[np.float64]]] = {}
        """by the cycle that they are for, in the order in which they were answered"""

    def __call__(self, frame: Frame) -> NDArray[np.float64]:
        policy = self.policy
        chunk = START + self.generator.uniform(-1e-4, 1e-4, (policy.chunk, JOINTS))
        for i, command in enumerate(chunk):
            cycle = frame.cycle + policy.latency_cycles + i * policy.spacing
            self.entries.setdefault(cycle, []).append(command)
        return chunk if policy.chunk > 1 else chunk[0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), blend=st.integers(1, 9), inference_ms=st.floats(0.1, 9))
def test_a_blend_is_within_all_that_was_asked_of_its_cycle(
    seed: int, blend: int, inference_ms: float
) -> None:
    keys = {"every": 4, "chunk": 10, "join": "blend", "blend_cycles": blend}
    with tempfile.TemporaryDirectory() as folder:
        described = schedule(Path(folder), inference_ms, **keys)
    call = Random(described, seed)
    for act in run(described, 96, call)[0]:
        if act.source is None:
            continue
        asked = np.array(call.entries[act.cycle])
        assert (act.requested >= asked.min(axis=0) - 1e-15).all()
        assert (act.requested <= asked.max(axis=0) + 1e-15).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    way=st.sampled_from(["linear", "cubic"]),
    inference_ms=st.floats(0.1, 9),
)
def test_what_is_interpolated_goes_through_the_newest_command_of_each_cycle(
    seed: int, way: str, inference_ms: float
) -> None:
    keys = {"every": 6, "chunk": 6, "chunk_every": 3, "latency_cycles": 4, "interpolate": way}
    with tempfile.TemporaryDirectory() as folder:
        described = schedule(Path(folder), inference_ms, **keys)
    call = Random(described, seed)
    found = {act.cycle: act for act in run(described, 96, call)[0]}
    for cycle, asked in call.entries.items():
        if cycle in found and found[cycle].source is not None:
            assert any((found[cycle].requested == one).all() for one in asked)


@pytest.mark.parametrize("join", ["switch", "blend", "freeze"])
@pytest.mark.parametrize("way", ["hold", "linear", "cubic"])
def test_a_run_has_the_same_digest_twice_and_in_a_process_of_its_own(
    tmp_path: Path, join: str, way: str
) -> None:
    (tmp_path / "chunks.py").write_text(CHUNKS.format(start=START.tolist()))
    keys: dict[str, Any] = {"every": 4, "chunk": 10, "chunk_every": 2, "join": join}
    keys |= {"interpolate": way, "history": 3, "align": "wrench"}
    keys |= {"blend_cycles": 5} if join == "blend" else {}
    random = "{ lognormal = [4.0, 0.6], high = 30.0 }"
    described = schedule(tmp_path, random, call="chunks.py:policy", **keys)
    digests = []
    for isolate in (False, False, True):
        with LockStep(described, seed=5, isolate=isolate) as robot:
            robot.run(256)
            digests.append(robot.digest())
    assert len(set(digests)) == 1


@pytest.mark.parametrize(
    "keys",
    [
        {"every": 5},
        {"every": 5, "latency_cycles": 4},
        {"every": 4, "chunk": 5},
        {"every": 6, "chunk": 4, "chunk_every": 2, "latency_cycles": 1},
        {"every": 6, "chunk": 4, "chunk_every": 2, "interpolate": "linear"},
        {"every": 5, "latency_cycles": 8, "interpolate": "cubic"},
    ],
    ids=str,
)
def test_what_a_policy_may_take_is_noted_and_true(tmp_path: Path, keys: dict[str, Any]) -> None:
    described = schedule(tmp_path, **keys)
    (note,) = (note for note in planning.make(described).notes if "the policy takes" in note)
    may_ms = float(note.split("and has ")[1].split()[0])
    for inference_ms, missed in ((may_ms - 0.6, False), (may_ms + 0.1, True)):
        assert inference_ms < 2 * keys["every"], "one server keeps up with it"
        found, _ = run(schedule(tmp_path, inference_ms, **keys), 96, Random(described, 1))
        first = next(act.cycle for act in found if act.source is not None)
        assert any(act.source is None for act in found if act.cycle > first + 10) == missed


# ---- what is no answer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda c: c[0], "shape"),
        (lambda c: c[:5], "shape"),
        (lambda c: c.reshape(-1), "shape"),
        (lambda c: {"arm": c[:, :5]}, "shape"),
        (lambda c: np.where(np.arange(8)[:, None] == 7, np.nan, c), "nan"),
        (lambda c: None, "silent"),
    ],
)
def test_a_chunk_that_is_none_is_refused_whole(tmp_path: Path, answer: Any, reason: str) -> None:
    described = schedule(tmp_path, every=4, chunk=8)
    whole = numbered(described)

    def call(frame: Frame) -> Any:
        chunk = whole(frame)
        return chunk if frame.cycle < 8 else answer(chunk)

    found, counts = run(described, 32, call)
    assert found[11].source == (4, 7)
    assert found[12].source is None and found[12].reason == reason
    assert counts["refused_answers"] == 6


def test_a_dict_of_chunks_is_a_chunk(tmp_path: Path) -> None:
    described = schedule(tmp_path, every=4, chunk=8)
    whole = numbered(described)
    found, _ = run(described, 64, lambda frame: {"arm": whole(frame)})
    assert all(act.source == (act.cycle // 4 * 4, act.cycle % 4) for act in found)


@pytest.mark.parametrize(
    ("keys", "where", "what"),
    [
        ({"join": "blend"}, "policy.join", "is for a chunk"),
        ({"blend_cycles": 3}, "policy.blend_cycles", "is for a chunk"),
        ({"chunk_every": 2}, "policy.chunk_every", "is for a chunk"),
        ({"chunk": 8, "every": 9}, "policy.chunk", "give at least 9"),
        ({"chunk": 8, "every": 9, "chunk_every": 2}, "policy.chunk_every", "does not divide"),
        ({"chunk": 8, "join": "blend"}, "policy.blend_cycles", "give both or neither"),
        ({"chunk": 8, "blend_cycles": 3}, "policy.blend_cycles", "give both or neither"),
        ({"every": 5, "interpolate": "cubic"}, "policy.interpolate", "latency_cycles = 5 or more"),
        ({"every": 6, "chunk": 2, "chunk_every": 3, "interpolate": "linear"},
         "policy.interpolate", "or a longer chunk"),
        ({"chunk": 1024, "chunk_every": 1, "latency_cycles": 9000}, "policy.latency_cycles",
         "more than there is room for"),
        ({"history_start": "repeat"}, "policy.history_start", "is for a history"),
        ({"history": 64, "every": 100}, "policy.history", "reach back over 6300 cycles"),
        ({"align": "eye"}, "policy.align", "no such sensor"),
        ({"every": 0}, "policy.every", "a count of cycles"),
        ({"join": "jump"}, "policy.join", "switch"),
        ({"interpolate": "spline"}, "policy.interpolate", "cubic"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_its_key(
    tmp_path: Path, keys: dict[str, Any], where: str, what: str
) -> None:
    with pytest.raises(ScheduleError, match=what) as raised, LockStep(schedule(tmp_path, **keys)):
        pass
    assert where in str(raised.value) and "robot.toml" in str(raised.value)


def test_an_environments_action_is_a_chunk(tmp_path: Path) -> None:
    gym = pytest.importorskip("inphase.gym", reason="the package gymnasium is missing")
    described = schedule(tmp_path, every=4, chunk=8, latency_cycles=2, history=2)
    environment = gym.Environment(described)
    try:
        assert environment.action_space.shape == (8, JOINTS)
        environment.reset(seed=3)
        cycles = []
        for _ in range(5):
            *_, info = environment.step(np.tile(START, (8, 1)))
            cycles.append(info["cycle"])
        assert np.diff(cycles).tolist() == [4] * 4 and info["missed"] == 0
        with pytest.raises(ValueError, match=r"\(8, 6\) numbers"):
            environment.step(START)
    finally:
        environment.close()


# ---- with a process ------------------------------------------------------------------------------


@pytest.mark.real
def test_a_policy_slower_than_the_cycle_acts_at_its_offset_on_the_wall_clock(
    tmp_path: Path,
) -> None:
    (tmp_path / "chunks.py").write_text(CHUNKS.format(start=START_RAD))
    path = demo_schedule(tmp_path, emulator=True, policy="chunks.py:policy")
    path.write_text(path.read_text().rstrip() + "\nevery = 5\nchunk = 10\nlatency_cycles = 3\n")
    found = []
    with Runner(path, cycles=400) as robot:
        for _ in range(300):
            frame = robot.next(BOUND_S)
            act = frame.command["arm"]
            requested = act.requested - START_RAD + START
            found.append(Act(frame.command.cycle, requested, act.flags, act.reason))
    sources = [(act.cycle, act.source) for act in found if act.source is not None]
    assert sources
    for cycle, (frame_cycle, entry) in sources:
        assert frame_cycle % 5 == 0 and frame_cycle + 3 + entry == cycle
    assert robot.summary is not None and robot.summary["policy"]["commands"] > 0
