"""A schedule as a Gymnasium environment: in lock step, on the emulated robot, and many at once."""

import copy
import json
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import inphase
from arms import arm_schedule
from inphase import schedule as schedules
from inphase.episodes.gym_vector import Environments
from inphase.episodes.lockstep import LockStep
from inphase.episodes.stepping.frame_batch import FrameBatch
from inphase.episodes.stepping.later_dict import LaterDict
from inphase.episodes.stepping.merged_infos import merged
from inphase.episodes.task import TaskRun
from inphase.errors import RuntimeFault, ScheduleError, StoreError
from inphase.frame import Frame
from inphase.gym import ID, Environment
from robots import demo_schedule
from simulations import Simulation
from worlds import needs_images

Make = Callable[..., Environment]
RANDOMISE = """
[randomise]
"world.body.block.mass" = { uniform = [0.1, 0.3] }
"""


pytestmark = pytest.mark.filterwarnings("error")  # the warning itself: test_first_command.py


ARM = "[actuator.arm]\n"
APPROACHES = f'{ARM}first_command = "approach"\n'


def approaching_arm(folder: Path, **options: Any) -> Path:
    """The arm's schedule, whose first command may be anywhere, as an agent's is."""
    path = arm_schedule(folder, **options)
    path.write_text(path.read_text().replace(ARM, APPROACHES))
    return path


def pass_the_checker(env: Any) -> None:
    """Gymnasium's own; its advice on a schedule's own limits is not for us."""
    with warnings.catch_warnings():
        for expected in ("symmetric and normalized space", "value is -?infinity"):
            warnings.filterwarnings("ignore", f".*{expected}")
        check_env(env)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Environments of the arm without camera and timing; options of the schedule as `schedule`."""
    made: list[Environment] = []

    def environment(
        schedule: dict[str, Any] | None = None, *, approaches: bool = True, **options: Any
    ) -> Environment:
        write = approaching_arm if approaches else arm_schedule
        made.append(Environment(write(tmp_path, **(schedule or {})), **options))
        return made[-1]

    yield environment
    for environment_ in made:
        environment_.close()


def test_make_finds_it_by_its_name_with_the_module_in_front(tmp_path: Path) -> None:
    path = approaching_arm(tmp_path)
    env = gymnasium.make(f"inphase.gym:{ID}", schedule=path, observe=["joints"])
    assert isinstance(env.unwrapped, Environment)
    assert env.spec is not None and env.spec.id == ID
    assert list(env.reset(seed=1)[0]) == ["joints"]
    env.close()


@needs_images  # render modes are checked
@pytest.mark.parametrize("flat", [False, True])
def test_it_passes_the_checker(tmp_path: Path, flat: bool) -> None:
    env = gymnasium.make(ID, schedule=approaching_arm(tmp_path), flat=flat).unwrapped
    pass_the_checker(env)
    env.close()


@needs_images
def test_the_checker_passes_an_image_too(tmp_path: Path) -> None:
    env = gymnasium.make(ID, schedule=approaching_arm(tmp_path, camera=True), observe=["image"])
    pass_the_checker(env.unwrapped)
    env.close()


@needs_images
def test_spaces_follow_the_schedule(make: Make) -> None:
    env = make({"camera": True})
    assert env.action_names == [f"arm[{i}]" for i in range(6)]
    assert isinstance(env.action_space, gymnasium.spaces.Box)
    ends = np.array([2.6, 2.0, 2.6, 2.6, 2.2, 2.6])  # the schedule's limits
    assert (env.action_space.low == -ends).all() and (env.action_space.high == ends).all()
    space: Any = env.observation_space
    assert set(space) == {"joints", "wrench", "imu", "image"}
    position, image = space["joints"]["position"], space["image"]["image"]
    assert (position.low == -3.2).all() and (position.high == 3.2).all()
    assert np.isinf(space["joints"]["velocity"].high).all()
    assert (image.dtype, image.shape, image.high.max()) == (np.uint8, (240, 320, 3), 255)


def test_observe_chooses_sensors_and_fields(make: Make) -> None:
    env = make(observe=["wrench", "joints.velocity"])
    observed, _ = env.reset(seed=1)
    assert {name: set(fields) for name, fields in observed.items()} == {
        "joints": {"velocity"},
        "wrench": {"force", "torque"},
    }
    with pytest.raises(ScheduleError, match=r"'joint'.*there are: joints\.position"):
        make(observe=["joint"])


def test_a_flat_observation_has_the_same_values_in_the_schedules_order(make: Make) -> None:
    actions = np.random.default_rng(5).uniform(-2.6, 2.6, (20, 6))
    deep, flat = make(), make(flat=True)
    a, b = deep.reset(seed=1)[0], flat.reset(seed=1)[0]
    for action in actions:
        parts = [a[part.sensor][part.field] for part in deep.parts]
        assert np.array_equal(np.concatenate(parts), b)
        a, b = deep.step(action)[0], flat.step(action)[0]


@needs_images
def test_a_flat_observation_takes_no_image_and_says_so(make: Make) -> None:
    with pytest.raises(ScheduleError, match=r"image\.image"):
        make({"camera": True}, flat=True)


@needs_images
def test_what_was_returned_stays_as_it_was(make: Make) -> None:
    env = make({"camera": True})
    kept, _ = env.reset(seed=1)
    copies = {(s, f): v.copy() for s, fields in kept.items() for f, v in fields.items()}
    for _ in range(600):  # the rings have come round
        env.step(np.zeros(6))
    for (sensor, field), value in copies.items():
        assert np.array_equal(kept[sensor][field], value)
        assert kept[sensor][field].flags.owndata and kept[sensor][field].flags.writeable


@needs_images
def test_an_episode_starts_with_a_sample_of_every_sensor_and_a_robot_that_follows(
    make: Make,
) -> None:
    env = make({"camera": True, "timing": True})
    _, info = env.reset(seed=1)
    assert set(info["status"].values()) <= {"FRESH", "HELD"}
    _, _, _, _, info = env.step(np.full(6, 2.6))  # far from where it is
    assert (info["refused"], info["limited"]) == ({}, True)


def test_the_same_seed_is_the_same_episode_and_the_next_one_is_another(make: Make) -> None:
    env = make(flat=True)

    def episode(seed: int | None) -> list[Any]:
        observed = [env.reset(seed=seed)[0]]
        return observed + [env.step(np.zeros(6))[0] for _ in range(20)]

    first, second = episode(3), episode(None)
    assert np.array_equal(first, episode(3)) and np.array_equal(second, episode(None))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, episode(4))


def test_it_steps_like_lock_step_with_the_same_commands(make: Make) -> None:
    env = make({"timing": True}, observe=["joints"])
    actions = np.random.default_rng(5).uniform(-2.6, 2.6, (200, 6))
    observed, info = env.reset(seed=9)
    stepped = [(info["cycle"], observed["joints"]["position"])]
    for action in actions:
        observed, _, _, _, info = env.step(action)
        stepped.append((info["cycle"], observed["joints"]["position"]))

    with LockStep(env.client.schedule, seed=9, call=lambda _: None) as robot:
        frame = robot.next()
        while frame.cycle < stepped[0][0]:
            robot.answer(env.client._here(frame))
            frame = robot.next()
        for i, (cycle, position) in enumerate(stepped):
            assert frame.cycle == cycle
            assert np.array_equal(frame["joints"].value["position"], position)
            if i < len(actions):
                robot.answer(actions[i])
                frame = robot.next()


def test_a_slow_policy_spans_cycles_and_is_told_what_it_missed(make: Make) -> None:
    slow = "[timing]\npolicy.inference_ms = { uniform = [0.1, 5.0] }\n"  # cycles of 2 ms
    env = make({"more": slow}, observe=["joints"])
    _, before = env.reset(seed=1)
    spans, missed = [], []
    for _ in range(100):
        _, _, _, _, info = env.step(np.zeros(6))
        spans.append(info["cycle"] - before["cycle"])
        missed.append(info["missed"])
        assert missed[-1] in (spans[-1], spans[-1] - 1)  # too late is not there at all
        before = info
    assert set(spans) == {1, 2, 3} and 0 in missed


def test_a_policy_that_is_always_too_slow_begins_no_episode(make: Make) -> None:
    env = make({"more": "[timing]\npolicy.inference_ms = 5.0\n"}, approaches=False)
    with pytest.raises(
        RuntimeFault, match=r"arm does not follow \(silent\).*before its cycle's act"
    ):
        env.reset(seed=1)


def test_info_says_what_was_applied_and_why_a_command_was_refused(make: Make) -> None:
    env = make(approaches=False)
    _, before = env.reset(seed=1)
    _, _, _, _, info = env.step(before["applied"])
    assert np.array_equal(info["applied"], before["applied"]) and not info["limited"]
    _, _, _, _, info = env.step(np.full(6, np.nan))
    assert (info["invalid"], info["missed"]) == (1, 0)
    assert info["refused"] == {"arm": "nan"}
    assert set(info["age_ns"]) == {"joints", "wrench", "imu"}
    assert info["reason"] == {}


def test_an_action_of_another_shape_is_refused(make: Make) -> None:
    env = make()
    env.reset(seed=1)
    with pytest.raises(ValueError, match=r"\(6,\) numbers, got \(5,\)"):
        env.step(np.zeros(5))


def test_a_step_before_an_episode_says_what_to_call(make: Make) -> None:
    with pytest.raises(ValueError, match=r"no episode has begun.*call reset first"):
        make().step(np.zeros(6))


def test_frames_that_the_policy_does_not_accept_are_not_given(make: Make) -> None:
    often = "[timing]\nsensors.wrench.dropout = 0.3\n"
    accepts = '[policy.accepts]\nwrench = ["FRESH"]\n'
    env = make({"more": often + accepts}, observe=["joints"])
    _, before = env.reset(seed=1)
    spans = []
    for _ in range(200):
        _, _, _, _, info = env.step(np.zeros(6))
        assert info["status"]["wrench"] == "FRESH"
        spans.append(info["cycle"] - before["cycle"])
        assert info["invalid"] == spans[-1] - 1
        before = info
    assert max(spans) > 1


# ---- the task --------------------------------------------------------------------------------


def height(frame: Frame) -> float:
    """A reward."""
    return float(frame["joints"].value["position"][1])


def test_without_a_task_the_reward_is_nothing_and_no_episode_ends(make: Make) -> None:
    env = make()
    env.reset(seed=1)
    for _ in range(50):
        assert env.step(np.zeros(6))[1:4] == (0.0, False, False)


def test_reward_and_end_are_functions_of_the_frame(make: Make) -> None:
    env = make(reward=height, terminated=lambda frame: frame.cycle >= 20)
    env.reset(seed=1)
    while True:
        observed, reward, terminated, truncated, info = env.step(np.zeros(6))
        assert reward == observed["joints"]["position"][1]
        assert terminated == (info["cycle"] >= 20) and not truncated
        if terminated:
            break


def test_the_schedule_names_its_task(make: Make, tmp_path: Path) -> None:
    tmp_path.joinpath("tasks.py").write_text(
        "class Steps:\n"
        "    def reset(self):\n        self.steps = 0\n"
        "    def __call__(self, frame):\n        self.steps += 1\n        return self.steps\n"
    )
    env = make({"more": '[task]\nreward = "tasks.py:Steps"\ncycles = 5\n'})
    for seed in (1, None):
        env.reset(seed=seed)
        ends = [env.step(np.zeros(6))[1:4] for _ in range(5)]
        assert ends == [(float(n), False, n == 5) for n in range(1, 6)]
    with pytest.raises(ScheduleError, match=r"arm\.toml:\d+: task\.reward"):
        make({"more": '[task]\nreward = "tasks.py:Step"\n'})


def test_an_episode_is_randomised_as_the_schedule_and_the_caller_say(make: Make) -> None:
    env = make({"more": RANDOMISE})
    path = "world.body.block.mass"
    first = env.reset(seed=1)[1]["draws"][path]
    second = env.reset()[1]["draws"][path]
    assert 0.1 <= first <= 0.3 and first != second
    assert env.reset(seed=1)[1]["draws"][path] == first
    options = {"randomise": {path: 0.7}}
    assert env.reset(options=options)[1]["draws"][path] == pytest.approx(0.7)


# ---- pictures --------------------------------------------------------------------------------


@needs_images
def test_a_picture_leaves_the_episode_as_it_is(make: Make) -> None:
    plain, drawn = make(flat=True), make(flat=True, render_mode="rgb_array", camera="wrist")
    actions = np.random.default_rng(5).uniform(-2.6, 2.6, (5, 6))
    assert np.array_equal(plain.reset(seed=1)[0], drawn.reset(seed=1)[0])
    for action in actions:
        picture = drawn.render()
        assert (picture.shape, picture.dtype) == ((480, 640, 3), np.uint8)
        assert np.array_equal(plain.step(action)[0], drawn.step(action)[0])
    assert plain.render() is None


# ---- many at once ------------------------------------------------------------------------------


def same(a: Any, b: Any) -> bool:
    """Whether two returned values are the same, to the bit and with their types."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray) and a.dtype == object:
        return all(
            same(x, y) if isinstance(x, dict) else np.array_equal(x, y)
            for x, y in zip(a, b, strict=True)
        )
    if isinstance(a, np.ndarray) and a.dtype.kind == "f":
        return type(a) is type(b) and np.array_equal(a, b, equal_nan=True)
    return type(a) is type(b) and np.array_equal(a, b)


def played(env: Any, seed: int, steps: int) -> list[Any]:
    """Everything that it returns."""
    draw = np.random.default_rng(seed)
    shape = (*env.action_space.shape,)
    returned = [env.reset(seed=seed)]
    return returned + [env.step(draw.uniform(-2.6, 2.6, shape)) for _ in range(steps)]


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("flat", [False, True])
def test_many_give_what_gymnasiums_own_give(
    tmp_path: Path, mode: AutoresetMode, flat: bool
) -> None:
    path = approaching_arm(tmp_path, more=RANDOMISE + "[task]\ncycles = 12\n")
    options: dict[str, Any] = {"schedule": path, "num_envs": 3, "flat": flat}
    steps = 11 if mode is AutoresetMode.DISABLED else 30
    sync = gymnasium.make_vec(
        ID, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
    )
    ours = gymnasium.make_vec(ID, autoreset_mode=mode, workers=2, **options)
    assert ours.metadata["autoreset_mode"] is mode
    assert isinstance(ours, Environments)
    for a, b in zip(played(sync, 5, steps), played(ours, 5, steps), strict=True):
        assert same(a, b)
    sync.close()
    ours.close()


@needs_images
@pytest.mark.parametrize("workers", [1, 3])
def test_each_of_many_gives_what_it_gives_alone(make: Make, tmp_path: Path, workers: int) -> None:
    path = approaching_arm(tmp_path, camera=True, timing=True)
    many = Environments(3, path, observe=["image", "joints"], workers=workers)
    actions = np.random.default_rng(5).uniform(-2.6, 2.6, (25, 3, 6))
    returned = [many.reset(seed=4)[0]] + [many.step(action)[0] for action in actions]
    many.close()
    for i in range(3):
        env = make({"camera": True, "timing": True}, observe=["image", "joints"])
        alone = [env.reset(seed=4 + i)[0]] + [env.step(action)[0] for action in actions[:, i]]
        for together, single in zip(returned, alone, strict=True):
            for sensor, fields in single.items():
                for field, value in fields.items():
                    assert np.array_equal(together[sensor][field][i], value), (sensor, field)


def test_a_mask_resets_some_and_steps_may_be_bounded(tmp_path: Path) -> None:
    many = gymnasium.make_vec(
        ID,
        num_envs=2,
        schedule=approaching_arm(tmp_path),
        max_episode_steps=3,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    many.reset(seed=1)
    ends = [many.step(np.zeros((2, 6)))[3].tolist() for _ in range(3)]
    assert ends == [[False, False], [False, False], [True, True]]
    _, info = many.reset(options={"reset_mask": np.array([True, False])})
    assert info["_cycle"].tolist() == [True, False]
    with pytest.raises(AssertionError, match="reset"):
        many.step(np.zeros((2, 6)))
    many.close()


def test_the_infos_of_many_are_a_dict_whoever_looks_first(tmp_path: Path) -> None:
    many = Environments(2, approaching_arm(tmp_path), workers=2)
    many.reset(seed=1)
    many.step(np.zeros((2, 6)))  # the first one is looked at in Python
    looks: tuple[Callable[[Any], Any], ...] = (
        dict, len, list, bool, copy.deepcopy, lambda d: {**d}, lambda d: d | {}, lambda d: {} | d,
        lambda d: d.get("limited"), lambda d: "limited" in d, lambda d: d["limited"],
        lambda d: pickle.loads(pickle.dumps(d)), lambda d: json.dumps(d, default=str),
    )  # fmt: skip
    made = merged([env.infos.described(*kept_facts(env), 0, 0) for env in many.envs])
    for look in looks:
        infos = many.step(np.zeros((2, 6)))[4]
        assert isinstance(infos, LaterDict)
        fresh = look(infos)
        assert type(fresh) is type(look(dict(infos)))
        assert infos.keys() == made.keys()
        assert same(fresh, look(dict(infos)))
    many.close()


def kept_facts(env: Environment) -> tuple[bytes, tuple[int, ...]]:
    """The record of an environment's newest frame, and its facts."""
    follower = env.client.follower
    record = follower.peek(follower.number).record  # type: ignore[attr-defined]
    return record, env.infos.unpack(record)


@pytest.mark.parametrize("flat", [False, True])
def test_actions_for_many_steps_at_once_are_those_steps(tmp_path: Path, flat: bool) -> None:
    path = approaching_arm(tmp_path, timing=True, more=RANDOMISE + "[task]\ncycles = 12\n")
    actions = np.random.default_rng(5).uniform(-2.6, 2.6, (20, 3, 6))
    off = AutoresetMode.DISABLED
    alone = [Environment(path, flat=flat) for _ in range(3)]
    many = Environments(3, path, flat=flat, workers=2, autoreset_mode=off)
    many.reset(seed=4)
    first, ended = many.play(actions[:7])
    for i, env in enumerate(alone):
        env.reset(seed=4 + i)
        for at in range(7):
            observed, _, _, truncated, _ = env.step(actions[at, i])
            assert ended[at, i] == truncated
            assert same(row_of(first, at, i), observed)
    together, _, _, _, infos = many.step(actions[7])
    for i, env in enumerate(alone):
        observed, _, _, _, info = env.step(actions[7, i])
        assert same(row_of(together, i), observed)
        assert (infos["missed"][i], infos["cycle"][i]) == (info["missed"], info["cycle"])
    _, ended = many.play(actions[8:])
    assert ended.any(axis=0).all()
    with pytest.raises(ValueError, match=r"episodes .* are over; reset"):
        many.play(actions)
    many.close()


def row_of(observed: Any, *at: int) -> Any:
    """What one environment observed at one step."""
    if isinstance(observed, dict):
        return {key: row_of(part, *at) for key, part in observed.items()}
    return observed[at]


def test_many_steps_at_once_are_refused_where_python_looks_at_each(tmp_path: Path) -> None:
    many = Environments(2, approaching_arm(tmp_path), reward=height)
    many.reset(seed=1)
    with pytest.raises(ValueError, match="use step"):
        many.play(np.zeros((3, 2, 6)))
    with pytest.raises(ValueError, match=r"are \(steps, \*\(2, 6\)\) numbers, got \(3, 2, 5\)"):
        many.play(np.zeros((3, 2, 5)))
    many.close()


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rewards_of_many_are_those_of_each_alone(tmp_path: Path, mode: AutoresetMode) -> None:
    path = approaching_arm(tmp_path, more="[task]\ncycles = 9\n")
    options: dict[str, Any] = {"schedule": path, "num_envs": 3, "reward": height}
    options["terminated"] = lambda frame: frame["joints"]["position"][0] > 0.1
    sync = gymnasium.make_vec(
        ID, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options
    )
    ours = gymnasium.make_vec(ID, autoreset_mode=mode, workers=2, **options)
    for a, b in zip(played(sync, 5, 30), played(ours, 5, 30), strict=True):
        assert same(a, b)
    sync.close()
    ours.close()


@inphase.batched
def heights(frames: Any) -> Any:
    """What `height` says of one frame, of one or of many."""
    return frames["joints"]["position"][..., 1]


@inphase.batched
def is_far(frames: Any) -> Any:
    return frames["joints"].value["position"][..., 0] > 0.1


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_a_batched_reward_gives_what_it_gives_of_each_alone(
    tmp_path: Path, mode: AutoresetMode
) -> None:
    path = approaching_arm(tmp_path, more="[task]\ncycles = 9\n")
    options: dict[str, Any] = {"schedule": path, "num_envs": 3}
    sync = gymnasium.make_vec(
        ID, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **options,
        reward=height, terminated=lambda frame: frame["joints"]["position"][0] > 0.1,
    )  # fmt: skip
    calls = []

    @inphase.batched
    def counted(frames: Any) -> Any:
        calls.append(frames)
        return heights(frames)

    ours = gymnasium.make_vec(
        ID, autoreset_mode=mode, workers=2, **options, reward=counted, terminated=is_far
    )
    for a, b in zip(played(sync, 5, 30), played(ours, 5, 30), strict=True):
        assert same(a, b)
    assert sum(isinstance(frames, FrameBatch) for frames in calls) > len(calls) // 2
    sync.close()
    ours.close()


def test_the_frames_of_many_have_what_each_frame_has(tmp_path: Path) -> None:
    path = approaching_arm(tmp_path, timing=True)
    kept: list[Any] = []

    @inphase.batched
    def keep(frames: Any) -> Any:
        kept.append(frames)
        return frames["joints"]["position"][..., 1]

    many = Environments(3, path, reward=keep, workers=2)
    alone = [Environment(path, reward=keep) for _ in range(3)]
    actions = np.random.default_rng(5).uniform(-2.6, 2.6, (8, 3, 6))
    many.reset(seed=4)
    for action in actions:
        many.step(action)
    batch = kept.pop()
    for i, env in enumerate(alone):
        env.reset(seed=4 + i)
        for action in actions[:, i]:
            env.step(action)
    singles = [kept[-17], kept[-9], kept[-1]]
    assert isinstance(batch, FrameBatch) and len(batch) == 3
    for i, frame in enumerate(singles):
        assert (batch.cycle[i], batch.state[i]) == (frame.cycle, frame.state)
        assert (batch.reason[i], batch.latched_ns[i]) == (frame.reason, frame.latched_ns)
        assert batch.sensors == frame.sensors
        for name, sample in frame.samples.items():
            rows = batch[name]
            assert (rows.name, rows.status[i], rows.reason[i]) == (
                name, sample.status, sample.reason
            )  # fmt: skip
            assert rows.sequence[i] == sample.sequence
            assert rows.age_ns[i] == sample.age_ns
        for kind in ("requested", "applied"):
            mine = getattr(batch.command["arm"], kind)[i]
            assert np.array_equal(mine, getattr(frame.command["arm"], kind), equal_nan=True)
    with pytest.raises(KeyError, match=r"no sensor 'joint' .did you mean 'joints'"):
        batch["joint"]
    with pytest.raises(KeyError, match="no field 'speed'"):
        batch["joints"]["speed"]
    with pytest.raises(KeyError, match="no actuator 'leg'"):
        batch.command["leg"]
    with pytest.raises(ValueError, match="read-only"):
        batch["joints"]["position"][0] = 0
    many.close()


@pytest.mark.parametrize("flat", [False, True])
def test_a_reward_of_an_observation_is_that_of_the_frame(
    make: Make, tmp_path: Path, flat: bool
) -> None:
    path = approaching_arm(tmp_path, more="[task]\ncycles = 9\n")

    @inphase.of_observation
    def seen_height(observed: Any) -> Any:
        return observed[..., 1] if flat else observed["joints"]["position"][..., 1]

    @inphase.of_observation
    def is_seen_far(observed: Any) -> Any:
        return (observed if flat else observed["joints"]["position"])[..., 0] > 0.1

    returned = []
    for judges in ((heights, is_far), (seen_height, is_seen_far)):
        options: dict[str, Any] = {"reward": judges[0], "terminated": judges[1], "flat": flat}
        options["observe"] = ["joints.position"]
        env = make(**options)
        many = Environments(3, path, workers=2, **options)
        actions = np.random.default_rng(5).uniform(-2.6, 2.6, (8, 6))
        env.reset(seed=4)
        alone = [env.step(action) for action in actions]
        returned.append((alone, played(many, 5, 30)))
        many.close()
    for ours, frames in zip(*(a + b for a, b in returned), strict=True):
        assert same(ours, frames)
    with pytest.raises(ScheduleError, match="which only environments have; let it take a frame"):
        TaskRun(
            load_named(
                tmp_path, "import inphase\n\nreward = inphase.of_observation(lambda seen: 0.0)\n"
            )
        )


def load_named(folder: Path, tasks: str) -> schedules.Schedule:
    """The arm's schedule with a [task] whose reward is in a file of its own."""
    folder.joinpath("tasks.py").write_text(tasks)
    return schedules.load(approaching_arm(folder, more='[task]\nreward = "tasks.py:reward"\n'))


def test_a_batched_reward_that_gives_no_row_each_is_refused(tmp_path: Path) -> None:
    many = Environments(2, approaching_arm(tmp_path), reward=inphase.batched(lambda frames: 0.0))
    many.reset(seed=1)
    many.step(np.zeros((2, 6)))  # the first one is judged frame by frame
    with pytest.raises(ValueError, match=r"of 2 frames it returns as many values, got shape \(\)"):
        many.step(np.zeros((2, 6)))
    many.close()


def test_a_batched_reward_has_no_episode_of_its_own(make: Make, tmp_path: Path) -> None:
    tmp_path.joinpath("tasks.py").write_text(
        "import inphase\n\n@inphase.batched\nclass Steps:\n"
        "    def reset(self):\n        self.steps = 0\n"
        "    def __call__(self, frames):\n        return 0.0\n"
    )
    with pytest.raises(ScheduleError, match=r"its reset is for one; remove"):
        make({"more": '[task]\nreward = "tasks.py:Steps"\n'})


def test_a_step_after_the_end_is_refused(make: Make, tmp_path: Path) -> None:
    env = make()
    env.reset(seed=1)
    for _ in range(3):
        env.step(np.zeros(6))
    env.close()
    with pytest.raises(StoreError, match="closed"):
        env.step(np.zeros(6))


def test_an_environment_that_fails_does_not_hold_up_the_others(tmp_path: Path) -> None:
    many = Environments(3, approaching_arm(tmp_path), workers=2)
    many.reset(seed=1)
    with pytest.raises(ValueError, match=r"numbers, got \(5,\)"):
        many.step(np.zeros((3, 5)))
    many.step(np.zeros((3, 6)))
    many.close()


# ---- on the wall clock -------------------------------------------------------------------------


def marked(robot: str) -> tuple[int, str]:
    """The episode that a robot's frames tell."""
    with inphase.subscribe(robot) as frames:
        frame = frames.next()
        return frame.episode, frame.outcome


@pytest.mark.real
def test_the_same_environment_runs_on_the_wall_clock(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True, gateway=True)
    path.write_text(path.read_text().replace(ARM, APPROACHES))
    env = gymnasium.make(ID, schedule=path, backend="hardware", observe=["joints"])
    observed, before = env.reset(seed=1)
    start = observed["joints"]["position"]
    robot = inphase.load(path).name
    assert marked(robot) == (1, "running")
    for _ in range(100):
        observed, _, _, _, info = env.step(start + 0.01)
        assert info["cycle"] > before["cycle"]
        assert info["missed"] + info["invalid"] < info["cycle"] - before["cycle"] + 1
        before = info
    assert env.observation_space.contains(observed)
    assert np.allclose(info["applied"], start + 0.01)
    assert inphase.mark_episode(robot, "success")[0] == 1  # by a person
    _, info = env.reset()  # the robot runs on
    assert info["cycle"] > before["cycle"]
    assert marked(robot) == (2, "running")
    env.close()
    env.close()


@pytest.mark.real
@pytest.mark.long
def test_a_simulated_robot_in_real_time_starts_anew_with_each_episode() -> None:
    without = ("device.eye", "sensor.image", "world.sensor.image")
    changes = (("sensors.image", "# sensors.image"), (ARM, APPROACHES))
    with Simulation(*changes, without=without) as arm:
        env = Environment(arm.schedule, "simulate", observe=["joints", "imu"])
        for _ in range(2):
            observed, before = env.reset()
            assert before["cycle"] < 100
            home = observed["joints"]["position"]
            for _ in range(30):
                observed, _, _, truncated, info = env.step(home + 0.02)
                assert info["cycle"] > before["cycle"] and not truncated
                before = info
            assert np.allclose(info["applied"], home + 0.02)
        env.close()
