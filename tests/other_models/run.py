"""Makes schedules for models of other people's packages, and runs each in every way there is.

`make models-test`. The packages lie in an environment of their own, as files alone: only their
models are read. See README.md beside this file.
"""

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MODELS = {
    "robosuite": [
        *(
            f"models/assets/robots/{name}/robot.xml"
            for name in ("panda", "ur5e", "sawyer", "iiwa", "jaco", "kinova3", "xarm7", "baxter")
        ),
        "models/assets/grippers/panda_gripper.xml",
        "models/assets/grippers/robotiq_gripper_85.xml",
    ],
    "gymnasium_robotics": [
        "envs/assets/hand/reach.xml",
        "envs/assets/hand/manipulate_block.xml",
        "envs/assets/fetch/reach.xml",
        "envs/assets/fetch/pick_and_place.xml",
        "envs/assets/adroit_hand/adroit_door.xml",
        "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml",
        "envs/assets/point/point.xml",
    ],
    "dm_control": [
        *(
            f"suite/{name}.xml"
            for name in ("acrobot", "cartpole", "cheetah", "finger", "fish", "hopper", "humanoid")
        ),
        *(f"suite/{name}.xml" for name in ("manipulator", "pendulum", "quadruped", "reacher")),
        "suite/walker.xml",
        "third_party/kinova/jaco_arm.xml",
    ],
}
"""package -> models, from its folder"""

PATIENT = "[cycle]\nresumed_after_ms = 20_000\noverrun_limit = 1_000_000"
"""A loaded machine is no reason to end a run; the tests of the middleware have the same."""

GYM = """
import sys
import gymnasium
env = gymnasium.make("inphase.gym:inphase/Schedule-v0", schedule=sys.argv[1])
observation, info = env.reset(seed=1)
env.action_space.seed(1)
for _ in range(5):
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
env.close()
"""
BOUND_S = 540


def folder(package: str) -> Path | None:
    """Where a package lies, which is not imported: it may want more than its models do."""
    spec = importlib.util.find_spec(package)
    found = None if spec is None else spec.submodule_search_locations
    return Path(found[0]) if found else None


def run(*words: str | Path) -> tuple[int, str, str]:
    """A Python command: its exit code, and what it said."""
    try:
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=BOUND_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"it took longer than {BOUND_S} s"
    return done.returncode, done.stdout, done.stderr


def inphase(*words: str | Path) -> tuple[int, str, str]:
    """A command of inphase."""
    return run("-m", "inphase", *words)


def steps(model: Path, schedule: Path, *, in_real_time: bool) -> Iterator[tuple[str, str]]:
    """What is done with a model, and what went wrong each time; empty: nothing."""
    code, _, said = inphase("new", "schedule", "--world", model, "--output", schedule)
    trouble = "it was tried, and " in said
    yield "new schedule", last(said) if code or trouble else ""
    if code:
        return
    code, _, said = inphase("check", schedule)
    yield "check", last(said) if code else ""
    yield (
        "lock step",
        accepted(*inphase("run", "--lockstep", "--json", "--cycles", "100", schedule)),
    )
    if in_real_time:
        schedule.write_text(schedule.read_text().replace("[cycle]", PATIENT, 1))
        run_it = ("run", "--simulate", "--json", "--cycles", "50", schedule)
        yield "simulate", accepted(*inphase(*run_it))
    code, _, said = run("-c", GYM, schedule)
    yield "gymnasium", last(said) if code else ""


LOAD = "import mujoco, sys; mujoco.MjModel.from_xml_path(sys.argv[1])"


def accepted(code: int, output: str, said: str) -> str:
    """What went wrong in a run: its exit code, or that no command was accepted; empty: nothing."""
    if code:
        return f"exit code {code}: {last(said)}"
    policy = json.loads(output).get("policy", {})
    return "" if policy.get("commands", 0) else "no command was accepted"


def last(said: str) -> str:
    """The last line with words in it."""
    lines = [line for line in said.splitlines() if re.search(r"\w", line)]
    return lines[-1][:160] if lines else "nothing was said"


def main() -> int:
    """The command line; the exit code is 1 where a step failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="models whose path has this in it")
    parser.add_argument("--no-real-time", action="store_true", help="for a machine that is busy")
    options = parser.parse_args()
    failed = 0
    for package, models in MODELS.items():
        where = folder(package)
        for name in (one for one in models if options.only in f"{package}/{one}"):
            if where is None or not (where / name).is_file():
                print(f"{package}/{name}: not in this version of {package}")
                continue
            code, _, said = run("-c", LOAD, where / name)
            if code:  # as a part of another model it may do
                print(f"{package}/{name}: MuJoCo itself does not load it: {last(said)}")
                continue
            with tempfile.TemporaryDirectory(prefix="inphase-") as made:
                began_s, outcome, why = time.monotonic(), [], []
                for step, trouble in steps(
                    where / name,
                    Path(made) / "robot.toml",
                    in_real_time=not options.no_real_time,
                ):
                    outcome.append(f"{step} {'FAILED' if trouble else 'ok'}")
                    why += [f"    {step}: {trouble}"] if trouble else []
                made_file = Path(made) / "robot.toml"
                text = made_file.read_text() if made_file.is_file() else ""
                left_out = text.count("\n#   actuator ")
            failed += bool(why)
            took_s = time.monotonic() - began_s
            print(
                f"{package}/{name}: {', '.join(outcome)}; {left_out} actuators left out; "
                f"{took_s:.0f} s",
                *why,
                sep="\n",
                flush=True,
            )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
