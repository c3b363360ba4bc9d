"""Train the network of press.toml: python schedules/train_press.py

It imitates an expert that is told what no robot knows: how the board moves, how stiff the drives
are and how much friction they have. The expert says what it would have commanded in every frame
that the network drove through (DAgger: Ross, Gordon and Bagnell, "A Reduction of Imitation Learning
and Structured Prediction to No-Regret Online Learning", 2011). The network sees what the robot
sees, and has to make out the rest from it.

All episodes run in lock step on press.toml itself, with its delays, jitter and draws. It wants:
pip install 'inphase[onnx,sim]' onnx
"""

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # two wait for each other more than they compute

import mujoco
import numpy as np
import press_truth
from numpy.typing import NDArray
from press_task import TIP_N, WANTED_N, score

import inphase
from inphase.frame import Frame

Array = NDArray[np.float64]

HERE = Path(__file__).resolve().parent
PLANE = [1, 2, 4]  # lift, elbow, pitch: those that move the tip up and down

# ---- the expert --------------------------------------------------------------------------------

REACH_M = 0.4  # where the tip goes down, from the arm's base
SHOULDER_M, UPPER_M, FORE_M, HAND_M = 0.22, 0.28, 0.30, 0.204
APPROACH_M_S = 0.08
LEAD_S = 0.0045  # from a frame's trigger to the middle of its command's time
FIRM_N = 3.0  # what counts as a touch in full
GENTLE_RAD = 0.005  # the first command has to start where the robot is


def reach(height: float) -> Array:
    """Lift, elbow and pitch with the tip at a height [m] above the ground and the hand down."""
    x, z = REACH_M, height + HAND_M - SHOULDER_M
    cosine = (x**2 + z**2 - UPPER_M**2 - FORE_M**2) / (2 * UPPER_M * FORE_M)
    elbow = np.arccos(np.clip(cosine, -1.0, 1.0))
    lift = np.arctan2(x, z) - np.arctan2(FORE_M * np.sin(elbow), UPPER_M + FORE_M * np.cos(elbow))
    return np.array([lift, elbow, np.pi - lift - elbow])


class Expert:
    """The command when everything is known: the drives' law, solved for the wanted force."""

    def __init__(self) -> None:
        self._model = mujoco.MjModel.from_xml_path(str(HERE / "press.xml"))
        self._model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_CONTACT)
        self._data = mujoco.MjData(self._model)
        self._tip = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SITE, "arm_tcp")
        self._kv = -self._model.actuator_biasprm[:6, 2]
        self._inertial = np.zeros(self._model.nv)
        self._jacobian = np.zeros((3, self._model.nv))
        self.begin({})

    def begin(self, draws: dict[str, Any]) -> None:
        """An episode in which this was drawn."""

        def drawn(path: str, otherwise: Array) -> Array:
            return np.array(
                [
                    draws.get(path.format(name), otherwise[i])
                    for i, name in enumerate(press_truth.ARM)
                ]
            )

        self._kp = drawn("world.actuator.{}.kp", self._model.actuator_gainprm[:6, 0])
        self._friction = drawn("world.joint.{}.frictionloss", self._model.dof_frictionloss[:6])
        self._damping = drawn("world.joint.{}.damping", self._model.dof_damping[:6])

    def command(self, truth: Any) -> Array:
        """Positions [rad] of all joints, from a sample of the truth."""
        model, data = self._model, self._data
        position, velocity = truth["position"], truth["velocity"]
        data.qpos[:6], data.qvel[:6] = position, velocity
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_fwdVelocity(model, data)
        mujoco.mj_jacSite(model, data, self._jacobian, None, self._tip)
        down = self._jacobian[2, :6]

        # on the board move as it does, and push; above it go down
        touch = min(max(float(truth["touch"][0]) / FIRM_N, 0.0), 1.0)
        speed = touch * truth["board_velocity"].sum() - (1 - touch) * APPROACH_M_S
        height = data.site_xpos[self._tip][2] + speed * LEAD_S
        goal, goal_velocity, goal_acceleration = np.zeros(6), np.zeros(6), np.zeros(model.nv)
        goal[PLANE] = reach(height)
        slope = (reach(height + 1e-4) - goal[PLANE]) / 1e-4
        goal_velocity[PLANE] = slope * speed
        goal_acceleration[PLANE] = slope * touch * truth["board_acceleration"].sum()

        # what the drives have to exert for it, and the position that makes them
        mujoco.mj_mulM(model, data, self._inertial, goal_acceleration)
        effort = self._inertial[:6] + data.qfrc_bias[:6] - down * WANTED_N * touch
        effort += self._damping * goal_velocity + self._friction * np.tanh(goal_velocity / 0.02)
        back = np.clip(goal - position, -GENTLE_RAD * 3, GENTLE_RAD * 3)
        change = back + (effort + self._kv * goal_velocity) / self._kp

        # at rest in the air: sink, since a first command of its own weight would be a jump
        at_rest = (1 - touch) * (1 - min(abs(float(down @ velocity)) / 0.06, 1.0))
        gentle = np.clip(change, -GENTLE_RAD, GENTLE_RAD)
        return np.asarray(position + change + at_rest * (gentle - change))


# ---- the network -------------------------------------------------------------------------------

SIZES = (27, 64, 64, 6)
FORCE = slice(18, 21)
UNIT_RAD = 0.01  # what the network's numbers are in
WEIGHTS = np.array([0.3, 1.0, 1.0, 0.3, 0.5, 0.3])
"""how much an error of each joint matters"""
MEANS = {
    "position": [0.0, 0.6, 1.5, 0.0, 1.05, 0.0],
    "velocity": [0.0] * 6,
    "current": [0.0, -2.4, -0.9, 0.0, 0.0, 0.0],
    "force": [0.0, 0.0, WANTED_N - TIP_N],
    "applied": [0.0, 0.6, 1.5, 0.0, 1.05, 0.0],
}
STDS = {
    "position": [0.1] * 6,
    "velocity": [0.2] * 6,
    "current": [0.1, 1.0, 1.0, 0.1, 0.3, 0.1],
    "force": [2.0, 2.0, 5.0],
    "applied": [0.1] * 6,
}
MEAN, STD = (np.concatenate(list(numbers.values())) for numbers in (MEANS, STDS))
"""of what goes in: round numbers, and 0 is the wanted force"""
STRETCH = np.eye(SIZES[0])
STRETCH[:6, -6:], STRETCH[-6:, -6:] = -10.0 * np.eye(6), 10.0 * np.eye(6)
"""in place of the last command, how far the position is from it, in 10 mrad"""


@dataclass
class Network:
    """The measured positions, plus a linear map of what goes in, plus two layers of tanh."""

    mix: Array
    """what goes in, to what the layers are given"""
    weights: list[Array]

    @classmethod
    def new(cls, seed: int, *, blind: bool = False) -> "Network":
        """Small random weights; a blind one is given no force."""
        mix = STRETCH.copy()
        if blind:
            mix[FORCE] = 0.0
        random = np.random.default_rng(seed)
        weights = [np.zeros((SIZES[0], SIZES[-1])), np.zeros(SIZES[-1])]
        for wide, next_wide in itertools.pairwise(SIZES):
            gain = 0.1 if next_wide == SIZES[-1] else 1.0
            weights.append(random.standard_normal((wide, next_wide)) * gain / np.sqrt(wide))
            weights.append(np.zeros(next_wide))
        return cls(mix, weights)

    def change(self, inputs: Array) -> Array:
        """The change of the measured positions [rad]."""
        return np.asarray(UNIT_RAD * self._layers(inputs @ self.mix)[-1])

    def _layers(self, inputs: Array) -> list[Array]:
        linear, offset, w1, b1, w2, b2, w3, b3 = self.weights
        first = np.tanh(inputs @ w1 + b1)
        second = np.tanh(first @ w2 + b2)
        return [first, second, second @ w3 + b3 + inputs @ linear + offset]

    def gradient(self, inputs: Array, wanted: Array) -> tuple[float, list[Array]]:
        """The loss, and its gradient for each of the weights."""
        first, second, out = self._layers(inputs)
        _, _, _, _, w2, _, w3, _ = self.weights
        error = (out - wanted) * WEIGHTS
        slope = np.clip(error, -2.0, 2.0) * WEIGHTS / len(inputs)
        to_second = slope @ w3.T * (1 - second**2)
        to_first = to_second @ w2.T * (1 - first**2)
        gradients = []
        for layer, down in ((inputs, slope), (inputs, to_first), (first, to_second)):
            gradients += [layer.T @ down, down.sum(0)]
        gradients += [second.T @ slope, slope.sum(0)]
        return float(np.mean(error**2)), gradients

    def fit(self, inputs: Array, wanted: Array, steps: int, random: np.random.Generator) -> float:
        """Adam from here, its rate on a cosine; the mean loss of the last tenth."""
        inputs = inputs @ self.mix
        means = [np.zeros_like(weight) for weight in self.weights]
        squares = [np.zeros_like(weight) for weight in self.weights]
        losses = []
        for step in range(1, steps + 1):
            rows = random.integers(0, len(inputs), 512)
            loss, gradients = self.gradient(inputs[rows], wanted[rows])
            rate = 0.003 * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / steps)))
            for i, gradient in enumerate(gradients):
                means[i] += 0.1 * (gradient - means[i])
                squares[i] += 0.001 * (gradient**2 - squares[i])
                scale = np.sqrt(squares[i] / (1 - 0.999**step)) + 1e-8
                self.weights[i] -= rate * means[i] / (1 - 0.9**step) / scale
            losses.append(loss)
        return float(np.mean(losses[-len(losses) // 10 :]))


# ---- episodes ----------------------------------------------------------------------------------


class Driver:
    """Drives one episode with the network, or where there is none as the expert says, and asks the
    expert in every frame.

    It begins late by some cycles, and now and then is a little wrong, so that there is something to
    correct.
    """

    def __init__(self, network: Network | None, expert: Expert, seed: list[int]) -> None:
        self.network, self.expert = network, expert
        self._random = np.random.default_rng(seed)
        self._wait = int(self._random.integers(0, 60))
        self._noise = float(self._random.choice([0.0, 0.004, 0.012]))
        self._wrong = np.zeros(6)
        self.inputs: list[Array] = []
        self.wanted: list[Array] = []
        self.forces: list[Array] = []

    def __call__(self, frame: Frame) -> Array | None:
        """Positions [rad]."""
        joints, wrench = frame["joints"], frame["wrench"]
        applied = frame.command["arm"].applied
        if not {joints.status, wrench.status} <= {"FRESH", "HELD", "LATE"}:
            return None
        read = [joints.value[name] for name in ("position", "velocity", "current")]
        observed = np.concatenate([*read, wrench.value["force"], applied])
        if not np.isfinite(observed).all():
            return None
        inputs = (observed - MEAN) / STD
        command = self.expert.command(frame["truth"].value)
        self.inputs.append(inputs)
        self.wanted.append((command - joints.value["position"]) / UNIT_RAD)
        self.forces.append(wrench.value["force"].copy())
        self._wrong += 0.1 * (self._noise * self._random.standard_normal(6) - self._wrong)
        if frame.cycle < self._wait:
            return None
        if self.network is not None:
            command = joints.value["position"] + self.network.change(inputs)
        return np.asarray(command + self._wrong)


@dataclass(frozen=True)
class Drive:
    """A worker process's orders: one episode."""

    schedule: Path
    network: Network | None
    seed: int
    number: int
    cycles: int

    def run(self) -> tuple[Array, Array, Array]:
        """Inputs, changes that the expert would have made, forces: a row per frame."""
        expert = Expert()
        driver = Driver(self.network, expert, [self.seed, self.number])
        with inphase.Runner(
            self.schedule,
            policy=driver,
            cycles=self.cycles,
            lockstep=True,
            seed=self.seed,
            episode=self.number,
        ) as robot:
            expert.begin(robot.draws)
            for _ in robot:
                pass
        return np.array(driver.inputs), np.array(driver.wanted), np.array(driver.forces)


# ---- the file ----------------------------------------------------------------------------------


def save(network: Network, path: Path) -> None:
    """Write the network as ONNX: `obs` to `action`, in float32."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    linear, offset, w1, b1, w2, b2, w3, b3 = network.weights
    # positions in rad are what went in, without the normalisation
    through = np.eye(SIZES[0], SIZES[-1]) * STD[:, None]
    tensors = {
        "w1": network.mix @ w1, "b1": b1, "w2": w2, "b2": b2,
        "w3": w3 * UNIT_RAD, "b3": b3 * UNIT_RAD,
        "linear": through + network.mix @ linear * UNIT_RAD, "offset": MEAN[:6] + offset * UNIT_RAD,
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["obs", "w1", "b1"], ["sum1"]),
        helper.make_node("Tanh", ["sum1"], ["first"]),
        helper.make_node("Gemm", ["first", "w2", "b2"], ["sum2"]),
        helper.make_node("Tanh", ["sum2"], ["second"]),
        helper.make_node("Gemm", ["second", "w3", "b3"], ["bent"]),
        helper.make_node("Gemm", ["obs", "linear", "offset"], ["straight"]),
        helper.make_node("Add", ["bent", "straight"], ["action"]),
    ]
    graph = helper.make_graph(
        nodes,
        "press",
        [helper.make_tensor_value_info("obs", TensorProto.FLOAT, [1, SIZES[0]])],
        [helper.make_tensor_value_info("action", TensorProto.FLOAT, [1, SIZES[-1]])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(
        model,
        {
            "inphase.mean.obs": json.dumps(MEAN.tolist()),
            "inphase.std.obs": json.dumps(STD.tolist()),
        },
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def train(args: argparse.Namespace) -> Network:
    """Drive, ask the expert, fit; again and again, and at last for longer."""
    random, begun = np.random.default_rng(args.seed), time.monotonic()
    network = Network.new(args.seed, blind=args.blind)
    inputs, wanted = np.empty((0, SIZES[0])), np.empty((0, SIZES[-1]))
    processes = multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory(prefix="inphase-press-") as folder, processes:
        path = press_truth.write(Path(folder), policy=False)
        for turn in range(args.turns):
            driven, seed = network if turn else None, args.seed + turn
            drives = [Drive(path, driven, seed, i, args.cycles) for i in range(args.episodes)]
            driven_inputs, driven_wanted, forces = zip(
                *processes.map(Drive.run, drives, 1), strict=True
            )
            inputs = np.concatenate([inputs, *driven_inputs])
            wanted = np.concatenate([wanted, *driven_wanted])
            steps = args.steps * (4 if turn == args.turns - 1 else 1)
            loss = network.fit(inputs, wanted, steps, random)
            print(
                f"{time.monotonic() - begun:3.0f} s: the {'network' if turn else 'expert'} drove, "
                f"{score(list(forces))}; loss {loss:.4f} over {len(inputs)} frames",
                flush=True,
            )
    return network


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, write, and say how good it is."""
    parser = argparse.ArgumentParser(description="train the network of press.toml")
    parser.add_argument("--out", type=Path, default=HERE / "press.onnx")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--turns", type=int, default=8)
    parser.add_argument("--episodes", type=int, default=24, help="per turn")
    parser.add_argument("--cycles", type=int, default=1250, help="per episode")
    parser.add_argument("--steps", type=int, default=3000, help="of Adam per turn")
    parser.add_argument("--blind", action="store_true", help="do without the force")
    args = parser.parse_args(arguments)
    save(train(args), args.out)


if __name__ == "__main__":
    main()
