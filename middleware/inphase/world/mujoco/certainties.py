"""Facts of a world that are certain before anything runs; `inphase check` tells them.

A fault is a start that no run can make good: nothing would move, or the robot would fall. A note is
of something that may be wanted.
"""

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inphase.errors import ScheduleFault
from inphase.plan.actuator_plan import ActuatorPlan
from inphase.world.mujoco.drives import control_of, output_of
from inphase.world.mujoco.package import package
from inphase.world.mujoco.world import MujocoWorld

_NEAR = 1e-6  # share of a range that rounding explains
_HELD_S = 1.0  # for how long the world is tried out
_TRIED_MAX = 5000  # physics steps of that at most
_FULL = 0.999  # share of its largest force from which on an actuator has no more to give


class Certainties:
    """Looks at a world at the start of an episode. It may be stepped, and is reset after that.

    Thread: one, and not while the core steps the world.
    """

    def __init__(self, world: MujocoWorld) -> None:
        self._world = world
        self._mujoco = package()
        self._model, self._data = world.model, world.data
        self._plan = world.plan
        self._moved = _moved_dofs(self._model, self._data)
        """per actuator of the model, the degrees of freedom that it acts on"""

    def faults(self) -> list[ScheduleFault]:
        """All of them."""
        found: list[ScheduleFault] = []
        for index, actuator in enumerate(self._plan.actuators):
            found += self._starts_outside(index, actuator)
        return found or list(self._falls())

    def notes(self) -> list[str]:
        """All of them, a sentence each."""
        found: list[str] = []
        for index, actuator in enumerate(self._plan.actuators):
            found += self._is_cut(index, actuator)
        return found + list(self._hangs())

    # ---- where the joints are ----------------------------------------------------------------

    def _place(self, actuator: ActuatorPlan, channel: int) -> float | None:
        """The measured position of a channel now; None: the world does not say it."""
        if actuator.schedule.mode != "position" or actuator.feedback_sensor < 0:
            return None
        readings = self._world.readings[actuator.feedback_sensor]
        one = None if readings is None else readings[actuator.feedback_channel + channel]
        if one is None:
            return None
        return one.zero + one.gain * ctypes.c_double.from_address(one.address).value

    def _starts_outside(self, index: int, actuator: ActuatorPlan) -> Iterator[ScheduleFault]:
        if self._world.controls[index] is None or self._draws_start():
            return
        for channel, limits in enumerate(actuator.limits):
            here = self._place(actuator, channel)
            if here is None:
                continue
            beyond = max(limits.low - here, here - limits.high)
            if beyond > limits.step:
                yield self._plan.schedule.fault(
                    f"actuator.{actuator.name}.limits.position",
                    f"channel {channel} starts at {here:.4g} in the world, outside "
                    f"[{limits.low:g}, {limits.high:g}] by more than step = {limits.step:g}: every "
                    f"command would be refused; give a position that has {here:.4g} in it, or "
                    f"start elsewhere (keyframe or pose of [world])",
                )

    def _draws_start(self) -> bool:
        """True if the start of an episode may be drawn: nothing of it is certain then."""
        return any(not path.startswith("timing") for path in self._plan.schedule.randomise)

    # ---- what the actuators can do -----------------------------------------------------------

    def _is_cut(self, index: int, actuator: ActuatorPlan) -> Iterator[str]:
        """Commands that the limits allow, and that the model's control range does not."""
        controls, cut = self._world.controls[index], []
        if controls is None:
            return
        for channel, limits in enumerate(actuator.limits):
            control = control_of(self._model, controls.numbers[channel])
            gain, zero = controls.gains[channel], controls.zeros[channel]
            low, high = limits.range
            if self._model.actuator_ctrllimited[control] and gain != 0:
                ends = [(end - zero) / gain for end in self._model.actuator_ctrlrange[control]]
                least, most = sorted(map(float, ends))
                slack = _NEAR * (most - least)
                if low < least - slack or high > most + slack:
                    low, high = max(low, least), min(high, most)
                    cut.append(f"channel {channel} to [{low:.4g}, {high:.4g}]")
        if cut:
            key = "effort" if actuator.schedule.mode == "effort" else "position"
            key = "velocity" if actuator.schedule.mode == "velocity" else key
            yield (
                f"actuator {actuator.name}: the limits allow more than the control range of the "
                f"model, which cuts a command while the act says that it was applied: in "
                f"limits.{key} narrow {' and '.join(cut)}"
            )

    def _falls(self) -> Iterator[ScheduleFault]:
        """Try out if the actuators hold the robot where it starts."""
        held = [
            (actuator, channel, controls.numbers[channel])
            for actuator, controls in zip(self._plan.actuators, self._world.controls, strict=True)
            if controls is not None and actuator.schedule.mode == "position"
            for channel in range(actuator.spec.channels)
            if self._model.actuator_forcelimited[controls.numbers[channel]]
        ]
        if not held or self._draws_start():
            return
        before = {number: self._length(number) for *_, number in held}
        full = self._hold_out([number for *_, number in held])
        for actuator, channel, number in held:
            moved = abs(self._length(number) - before[number]) / self._unit(actuator, channel)
            if number in full and moved > actuator.limits[channel].step:
                name = self._mujoco.mj_id2name(
                    self._model, self._mujoco.mjtObj.mjOBJ_ACTUATOR, number
                )
                low, high = self._model.actuator_forcerange[number]
                yield self._plan.schedule.fault(
                    f"world.actuator.{actuator.name}.actuators",
                    f"actuator {name or number!r} of the model cannot hold channel {channel} where "
                    f"it starts: with its whole force ({low:g} to {high:g}) it gives way by "
                    f"{moved:.3g} within {_HELD_S:g} s; give it a larger forcerange in "
                    f"{self._world.path.name}, or start elsewhere (keyframe or pose of [world])",
                )
        self._world.reset()

    def _hold_out(self, numbers: list[int]) -> set[int]:
        """Hold for a while; the actuators that exerted all that they have in its second half."""
        steps = min(_TRIED_MAX, int(_HELD_S / self._model.opt.timestep))
        full = set(numbers)
        try:
            for step in range(steps):
                self._mujoco.mj_step(self._model, self._data)
                if step >= steps // 2:
                    full = {number for number in full if self._is_full(number)}
        except self._mujoco.FatalError:
            return set()  # the run tells it
        return full

    def _is_full(self, number: int) -> bool:
        force = float(self._data.actuator_force[output_of(self._model, number)])
        low, high = self._model.actuator_forcerange[number]
        return bool(force >= _FULL * high > 0 or force <= _FULL * low < 0)

    def _length(self, number: int) -> float:
        return float(self._data.actuator_length[output_of(self._model, number)])

    def _unit(self, actuator: ActuatorPlan, channel: int) -> float:
        """Length of an actuator of the model per unit of a command."""
        controls = self._world.controls[self._plan.actuators.index(actuator)]
        assert controls is not None
        gear = self._model.actuator_gear[output_of(self._model, controls.numbers[channel])]
        return abs(float(gear[0])) or 1.0

    # ---- joints without a motor --------------------------------------------------------------

    def _hangs(self) -> Iterator[str]:
        """Joints of the robot that nothing drives or holds."""
        model = self._model
        ours = {n for c in self._world.controls if c is not None for n in c.numbers}
        driven = set().union(*(self._moved[number] for number in ours)) if ours else set()
        all_driven = set().union(*self._moved) if self._moved else set()
        trees = {int(model.dof_treeid[dof]) for dof in driven} - {-1}
        free = []
        for joint in range(model.njnt):
            dof = int(model.jnt_dofadr[joint])
            if (
                self._is_single(joint)
                and int(model.dof_treeid[dof]) in trees
                and dof not in all_driven
                and not self._is_held(joint)
            ):
                free.append(self._name("JOINT", joint))
        if free:
            yield (
                f"no motor moves the joint {', '.join(free)} of {self._world.path.name}: no "
                f"actuator of the model acts on it, and no spring, tendon or equality holds it; it "
                f"swings freely, and needs an actuator unless that is wanted"
            )
        left = [
            self._name("ACTUATOR", number)
            for number in sorted(set(range(model.nactuator)) - ours)
            if self._moved[number] - driven
            and {int(model.dof_treeid[dof]) for dof in self._moved[number]} <= trees
        ]
        if left:
            yield (
                f"the actuator {', '.join(left)} of {self._world.path.name} is in no "
                f"[world.actuator.NAME]: it takes no command, and has the control of the start"
            )

    def _is_single(self, joint: int) -> bool:
        kinds = self._mujoco.mjtJoint
        return int(self._model.jnt_type[joint]) in (int(kinds.mjJNT_HINGE), int(kinds.mjJNT_SLIDE))

    def _is_held(self, joint: int) -> bool:
        """True if something may hold a joint: a spring, a tendon, or an equality."""
        model, kinds = self._model, self._mujoco.mjtEq
        if np.any(model.jnt_stiffness[joint]):
            return True
        wraps = model.wrap_type == int(self._mujoco.mjtWrap.mjWRAP_JOINT)
        if joint in model.wrap_objid[wraps]:
            return True
        bodies = _subtree(model, int(model.jnt_bodyid[joint]))
        for kind, first, second in zip(
            model.eq_type, model.eq_obj1id, model.eq_obj2id, strict=True
        ):
            if kind == int(kinds.mjEQ_JOINT):
                if joint in (first, second):
                    return True
            elif kind != int(kinds.mjEQ_TENDON):
                return True  # a loop that is closed by a constraint may pass through any joint
        return bool(bodies & self._tendon_bodies())

    def _tendon_bodies(self) -> set[int]:
        """The bodies that a spatial tendon touches."""
        model = self._model
        sites = model.wrap_objid[model.wrap_type == int(self._mujoco.mjtWrap.mjWRAP_SITE)]
        return {int(model.site_bodyid[site]) for site in sites}

    def _name(self, kind: str, number: int) -> str:
        found = self._mujoco.mj_id2name(
            self._model, getattr(self._mujoco.mjtObj, f"mjOBJ_{kind}"), number
        )
        return repr(found or str(number))


def _subtree(model: Any, body: int) -> set[int]:
    """A body and all that hang on it."""
    found = {body}
    for other in range(body + 1, model.nbody):  # a parent has a smaller number
        if int(model.body_parentid[other]) in found:
            found.add(other)
    return found


def _moved_dofs(model: Any, data: Any) -> list[set[int]]:
    """Per actuator the degrees of freedom that its force acts on."""
    found = []
    for number in range(model.nactuator):
        row = output_of(model, number)
        first, count = int(data.moment_rowadr[row]), int(data.moment_rownnz[row])
        columns: NDArray[np.int32] = data.moment_colind[first : first + count]
        found.append({int(dof) for dof in columns})
    return found
