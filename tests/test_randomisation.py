"""Randomisation: knobs by path, drawn by seed, episode and path, and told in every frame."""

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from inphase.episodes.lockstep import LockStep
from inphase.errors import ScheduleError
from inphase.plan import plan
from inphase.schedule.tables import Schedule
from inphase.world import randomisation
from inphase.world.mujoco import world as mujoco_world
from worlds import CAMERA, MODEL, Swing, needs_images, world_schedule

KNOBS: dict[str, Any] = {
    "sensors.joints.latency_ms": {"uniform": [0.2, 0.6]},
    "policy.inference_ms": {"values": [0.1, 0.4]},
    "world.body.fore.mass": {"scale": {"uniform": [0.5, 1.5]}},
    "world.body.ball.pos": {"set": [0.5, {"uniform": [0.4, 0.8]}, 0.4]},
    "world.joint.*.damping": {"scale": {"uniform": [0.8, 1.2]}},
    "world.actuator.one.kp": {"uniform": [50, 70]},
    "world.light.sun.diffuse": {"uniform": [0.3, 0.9]},
    "world.camera.side.pos": {"add": {"uniform": [-0.05, 0.05]}},
}


@pytest.fixture
def described(tmp_path: Path) -> Schedule:
    """The small world, without a camera."""
    return world_schedule(tmp_path)


def run(described: Schedule, episode: int = 0, cycles: int = 60, **options: Any) -> Any:
    """(draws, digest, last frame, counts) of an episode."""
    options = {"randomise": KNOBS, "seed": 5, **options}
    with LockStep(described, call=Swing(), episode=episode, **options) as robot:
        robot.run(cycles - 1)
        frame = robot.step().copy()
        return robot.draws, robot.digest(), frame, robot


def test_an_episode_is_drawn_from_seed_and_number_alone(described: Schedule) -> None:
    draws = [run(described, episode)[:2] for episode in (0, 1, 2, 1, 0)]
    assert draws[0] == draws[4] and draws[1] == draws[3]
    assert len({digest for _, digest in draws}) == 3
    assert run(described, 0, seed=6)[0] != draws[0][0]


def test_a_world_that_is_used_again_keeps_nothing_of_the_episode_before(
    described: Schedule,
) -> None:
    fresh = [run(described, episode)[1] for episode in (0, 1, 2)]
    world = mujoco_world.MujocoWorld(plan.make(described))
    again = [run(described, episode, world=world)[1] for episode in (2, 1, 0)]
    assert again == fresh[::-1]
    plain = [
        run(described, 0, randomise=None)[1],
        run(described, 0, randomise=None, world=world)[1],
    ]
    assert plain[0] == plain[1], "nor does a run without randomisation"


def test_a_draw_does_not_depend_on_which_others_are_drawn(described: Schedule) -> None:
    every, alone = run(described)[0], None
    for path, knob in KNOBS.items():
        alone = run(described, randomise={path: knob})[0]
        assert alone == {one: every[one] for one in alone}


def test_what_was_drawn_is_in_every_frame(described: Schedule) -> None:
    with LockStep(described, call=Swing(), seed=5, episode=7, randomise=KNOBS) as robot:
        assert robot.follower.layout.sensors == ("joints", "tip", "episode")
        for _ in range(5):
            sample = robot.step()["episode"]
            assert (sample.status, sample.value["number"]) == ("FRESH", 7)
            for path, drawn in robot.draws.items():
                assert sample.value[path].tolist() == drawn


def test_the_world_is_as_it_was_drawn(described: Schedule) -> None:
    draws, _, _, robot = run(described, 3)
    model, base = robot.world.model, mujoco.MjModel.from_xml_string(MODEL)
    fore = model.body("fore").id
    assert model.body_mass[fore] == draws["world.body.fore.mass"]
    factor = draws["world.body.fore.mass"] / base.body_mass[fore]
    np.testing.assert_allclose(model.body_inertia[fore], base.body_inertia[fore] * factor)
    assert model.dof_damping[0] == draws["world.joint.one.damping"]
    assert (
        model.actuator_gainprm[0][0]
        == -model.actuator_biasprm[0][1]
        == draws["world.actuator.one.kp"]
    )
    np.testing.assert_allclose(model.light_diffuse[0], draws["world.light.sun.diffuse"], rtol=1e-6)
    moved = np.array(draws["world.camera.side.pos"]) - base.cam_pos[0]
    assert 0 < np.abs(moved).max() <= 0.05
    changed = model.body_subtreemass[model.body("upper").id]
    assert changed == pytest.approx(0.5 + draws["world.body.fore.mass"]), "constants follow"


def test_a_free_body_starts_where_it_was_drawn(described: Schedule) -> None:
    with LockStep(described, seed=5, randomise=KNOBS, digest=False) as robot:
        world: Any = robot.world
        assert world.data.qpos[2:5].tolist() == robot.draws["world.body.ball.pos"]


def test_timing_is_as_it_was_drawn(described: Schedule) -> None:
    draws, _, frame, _ = run(described, 4)
    sample = frame["joints"]
    latency_ns = sample.received_ns - sample.triggered_ns
    assert latency_ns == int(draws["sensors.joints.latency_ms"] * 1e6)
    inferred_ns = frame.command.inferred_ns - (frame.latched_ns - 2_000_000)
    assert inferred_ns == int(draws["policy.inference_ms"] * 1e6)


def test_scale_and_add_move_a_distribution_as_a_whole(tmp_path: Path) -> None:
    timing = "[timing]\nsensors.joints.latency_ms = { uniform = [0.2, 0.4] }\n"
    described = world_schedule(tmp_path, timing)

    def latencies(randomise: dict[str, Any]) -> list[int]:
        with LockStep(described, seed=5, call=Swing(), randomise=randomise) as robot:
            found = []
            for _ in range(40):
                sample = robot.step()["joints"]
                found.append((sample.received_ns or 0) - (sample.triggered_ns or 0))
            return found

    knob = "sensors.joints.latency_ms"
    plain = latencies({knob: {"scale": 1.0}})
    assert np.ptp(plain) > 100_000
    np.testing.assert_allclose(latencies({knob: {"scale": 2.0}}), np.array(plain) * 2, atol=2)
    np.testing.assert_allclose(latencies({knob: {"add": 0.1}}), np.array(plain) + 1e5, atol=2)


@needs_images
def test_what_is_drawn_in_every_cycle_changes_in_every_cycle(tmp_path: Path) -> None:
    described = world_schedule(tmp_path, CAMERA)
    knob = {"world.camera.side.pos": {"add": {"uniform": [-0.05, 0.05]}, "per": "cycle"}}
    told, images = [], []
    with LockStep(described, call=Swing(), seed=5, randomise=knob, digest=False) as robot:
        for _ in range(20):
            frame = robot.step()
            told.append(tuple(frame["episode"].value["world.camera.side.pos"]))
            if frame["eye"].status == "FRESH":
                images.append(frame["eye"].value["image"].copy())
    assert len(set(told)) == 20
    assert len({image.tobytes() for image in images}) == len(images) == 4
    digests = []
    for _ in range(2):
        with LockStep(described, seed=5, randomise=knob) as robot:  # without a policy, too
            robot.run(30)
            digests.append(robot.digest())
    assert digests[0] == digests[1]


@needs_images
def test_textures_lights_and_distractors_are_seen(tmp_path: Path) -> None:
    model = MODEL.replace(
        "<worldbody>",
        '<asset><texture name="checks" type="2d" builtin="checker" rgb1="1 1 1" rgb2="0.4 0.4 0.4"'
        ' width="64" height="64"/><material name="checks" texture="checks"/></asset><worldbody>',
    ).replace('size="2 2 0.1" rgba="0.3 0.5 0.3 1"', 'size="2 2 0.1" material="checks"')
    described = world_schedule(tmp_path, CAMERA, model=model)
    world = mujoco_world.MujocoWorld(plan.make(described))

    def image(randomise: dict[str, Any]) -> Any:
        with LockStep(described, world=world, randomise=randomise, digest=False) as robot:
            for _ in range(4):
                frame = robot.step()
            assert frame["eye"].status == "HELD"
            return frame["eye"].value["image"].astype(int)

    plain = image({"world.option.wind": 0.0})
    red = image({"world.texture.checks.rgb": {"set": [1.0, 0.1, 0.1]}})
    assert red[..., 1].mean() < 0.6 * plain[..., 1].mean() < red[..., 0].mean()
    grain = image({"world.texture.checks.noise": 0.3})
    assert np.abs(grain - plain).max() > 20
    dark = image({"world.light.sun.diffuse": 0.0})
    assert dark.mean() < 0.8 * plain.mean()
    gone = image({"world.body.ball.present": 0.0})
    assert np.abs(gone - plain).max() > 30
    np.testing.assert_array_equal(image({"world.option.wind": 0.0}), plain)


def test_an_absent_body_touches_nothing(tmp_path: Path) -> None:
    heights = []
    for present in (1.0, 0.0):
        with LockStep(
            world_schedule(tmp_path), randomise={"world.body.ball.present": present}, digest=False
        ) as robot:
            robot.run(400)
            world: Any = robot.world
            heights.append(float(world.data.qpos[4]))
    assert heights == pytest.approx([0.05, 0.4], abs=0.01)


@pytest.mark.parametrize(
    ("path", "knob", "what"),
    [
        ("sensors.joint.latency_ms", 1.0, "no such knob; .*near: sensors.joints.latency_ms"),
        ("world.body.four.mass", 1.0, "no such knob; .*near: world.body.fore.mass"),
        ("world.body.fore.colour", 1.0, "no such knob"),
        ("policy.inference_ms", {"uniform": [-1, 1]}, "can be -"),
        ("policy.inference_ms", {"normal": [1, 1]}, "no bound"),
        ("sensors.tip.dropout", {"uniform": [0, 2]}, "can be 2"),
        ("sensors.tip.dropout", {"uniform": [0, 1], "per": "cycle"}, "leave `per` out"),
        ("world.body.fore.mass", {"uniform": [1, 2], "per": "cycle"}, "start of an episode"),
        ("world.body.ball.pos", [1.0, 2.0], "3 numbers, and 2 are given"),
        ("world.body.ball.pos", {"set": 1.0, "add": 1.0}, "exactly one"),
        ("world.body.ball.pos", {"per": "cycle"}, "exactly one"),
        ("world.body.ball.pos", {"sett": 1.0}, "unknown field `sett`"),
    ],
)
def test_a_knob_that_cannot_be_is_refused(
    described: Schedule, path: str, knob: Any, what: str
) -> None:
    with pytest.raises(ScheduleError, match=what):
        LockStep(described, randomise={path: knob}, digest=False)


def test_every_knob_that_cannot_be_is_named(described: Schedule) -> None:
    knobs = {
        "world.body.four.mass": 1.0,
        "world.body.fore.mass": 1.0,
        "sensors.tip.dropout": {"uniform": [0, 2]},
        "world.body.ball.pos": [1.0, 2.0],
    }
    with pytest.raises(ScheduleError) as caught:
        LockStep(described, randomise=knobs, digest=False)
    said = str(caught.value).splitlines()
    assert len(said) == 3
    for path in knobs.keys() - {"world.body.fore.mass"}:
        assert any(path in line for line in said), path


def test_a_wrong_knob_of_a_schedule_is_named_at_its_own_line(tmp_path: Path) -> None:
    tables = """[timing]
sensors.tip.dropout = 0.1

[randomise]
"world.body.fore.mass" = { uniform = [0.2, 0.4] }
"world.body.four.mass" = { uniform = [0.2, 0.4] }
"sensors.tip.dropout" = { uniform = [5, 6] }
"""
    described = world_schedule(tmp_path, tables)
    lines = described.text.splitlines()
    with pytest.raises(ScheduleError) as caught:
        LockStep(described, digest=False)
    found = [(fault.key, lines[fault.line - 1].split(" = ")[0]) for fault in caught.value.faults]
    assert found == [
        ('randomise."world.body.four.mass"', '"world.body.four.mass"'),
        ('randomise."sensors.tip.dropout"', '"sensors.tip.dropout"'),
    ]


def test_a_schedule_says_what_is_drawn_and_errors_name_the_line(tmp_path: Path) -> None:
    good = '[randomise]\n"world.body.fore.mass" = { uniform = [0.2, 0.4] }\n'
    with LockStep(world_schedule(tmp_path, good), digest=False) as robot:
        assert list(robot.draws) == ["world.body.fore.mass"]
    with pytest.raises(ScheduleError, match=r"two\.toml:\d\d: randomise.*four"):
        LockStep(world_schedule(tmp_path, good.replace("fore", "four")), digest=False)
    taken = good + (
        '[device.episode]\ndriver = "simulated"\nfields = { x = {} }\n'
        '[sensor.episode]\ndevice = "episode"\ntrigger_us = 0\nmax_age_ms = 10\n'
    )
    with pytest.raises(ScheduleError, match="the name 'episode' is taken"):
        LockStep(world_schedule(tmp_path, taken), digest=False)


def test_the_twins_alone_have_their_timing_randomised(tmp_path: Path) -> None:
    from inphase import schedule
    from robots import demo_schedule

    described = schedule.load(demo_schedule(tmp_path))
    with LockStep(described, randomise={"host.wake_late_ms": {"uniform": [0, 0.1]}}) as robot:
        robot.run(20)
        late_ns = robot.step().woke_ns - robot.step().due_ns
        assert robot.draws["host.wake_late_ms"] and late_ns


def test_knobs_are_listed_with_what_they_are_now(described: Schedule) -> None:
    found = {knob.path: knob for knob in randomisation.knobs_of(described, "world.body.fore.*")}
    assert found["world.body.fore.mass"].now == "0.3"
    assert found["world.body.fore.mass"].per == "episode"
    assert not any(knob.drawn for knob in found.values())
