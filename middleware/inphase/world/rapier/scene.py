"""A model of MuJoCo as bodies, joints, motors and colliders of Rapier, and its state both ways.

Bodies that are welded together are one body of Rapier, and all that is welded to the world is one
that stands still. Joints are in reduced coordinates (Rapier's multibodies). All that MuJoCo's model
says of masses, frames, limits, gains, friction and contact masks is kept. Softness of contacts and
limits is Rapier's own.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inphase.world.rapier.refusals import named

Pose = tuple[NDArray[np.float64], NDArray[np.float64]]
"""position, and quaternion as w, x, y, z"""
_FASTEST = 400.0
"""m/s, from which on Rapier cuts velocities without a word"""
_LARGEST = 1e10
"""as MuJoCo's mjMAXVAL: beyond it a state is no state"""
_SLOW = 1e-3
"""rad/s or m/s below which dry friction is not at its full value"""


class _Joint(NamedTuple):
    """A hinge or a slide."""

    number: int
    body: Any
    parent: Any
    link: int
    axis: Any
    slot: int
    """of its coordinate among the six of a link"""
    at: int
    """in qpos"""
    dof: int
    multibody: Any


class _Free(NamedTuple):
    """A body with a free joint."""

    body: Any
    at: int
    dof: int


class _Excluded:
    """Rapier's question which pairs of colliders touch: not those that the model excludes."""

    def __init__(self, flags: Any, model: Any) -> None:
        self._flags = flags
        self._bodies: dict[int, int] = {}
        signatures = [int(one) for one in model.exclude_signature]
        self._pairs = {frozenset((one >> 16, one & 0xFFFF)) for one in signatures}
        welds = model.body_weldid
        for body in range(1, model.nbody):
            root = int(welds[model.body_parentid[body]])
            if model.body_jntnum[body] > 1 and root:  # no joint of Rapier links the two
                self._pairs |= {
                    frozenset((one, other))
                    for one in np.flatnonzero(welds == body).tolist()
                    for other in np.flatnonzero(welds == root).tolist()
                }
        self._parts = {body for pair in self._pairs for body in pair}

    @property
    def is_needed(self) -> bool:
        """True if there is such a pair."""
        return bool(self._pairs)

    def asks_for(self, body: int) -> bool:
        """True if a body of the model has such a pair."""
        return body in self._parts

    def add(self, collider: Any, body: int) -> None:
        """The body that a collider belongs to."""
        self._bodies[collider.index] = body

    def filter_contact_pair(self, context: Any) -> Any:
        """None: these do not touch."""
        pair = (self._bodies.get(one.index, -1) for one in (context.collider1, context.collider2))
        return None if frozenset(pair) in self._pairs else self._flags.COMPUTE_IMPULSES

    def filter_intersection_pair(self, _context: Any) -> bool:
        """No collider is a sensor."""
        return True

    def modify_solver_contacts(self, _context: Any) -> None:
        """Contacts stay as they are."""


@dataclass
class _Drive:
    """An actuator of the model."""

    joint: _Joint
    unit: float
    """its gear"""
    holds: bool
    """a motor of Rapier makes its force, which follows from the joint's motion"""
    motor: tuple[float, ...] = ()
    """the last words to that motor"""


class Scene:
    """Rapier's world of one model at the model's present state. Thread: one at a time."""

    def __init__(self, rapier: Any, mujoco: Any, model: Any, data: Any) -> None:
        self._rapier, self._mujoco, self._model, self._data = rapier, mujoco, model, data
        self._world = rapier.PhysicsWorld(gravity=tuple(model.opt.gravity.tolist()))
        self._world.set_num_threads(1)
        self._parameters = self._world.integration_parameters
        self._bodies = {0: self._world.add_body(rapier.RigidBody.fixed())}
        self._joints: list[_Joint] = []
        self._free: list[_Free] = []
        self._set: tuple[float, tuple[float, ...]] = (0.0, ())
        for body in range(1, model.nbody):
            if model.body_weldid[body] == body:
                self._add_body(body)
        self._excluded = _Excluded(rapier.SolverFlags, model)
        if self._excluded.is_needed:
            self._world.physics_hooks = self._excluded
        for geom in range(model.ngeom):
            if model.geom_contype[geom] or model.geom_conaffinity[geom]:
                self._add_collider(geom)
        self._start_joints()
        self._drives = [self._drive_of(number) for number in range(model.nactuator)]
        self._passive = [
            joint
            for joint in self._joints
            if model.dof_frictionloss[joint.dof] or np.any(model.jnt_stiffness[joint.number])
        ]

    # ---- making ----------------------------------------------------------------------------

    def _place(self, body: int) -> Pose:
        return self._data.xpos[body].copy(), self._data.xquat[body].copy()

    def _within(self, outer: Pose, inner: Pose) -> Pose:
        """A pose of the world, as one of another pose's frame."""
        back: Pose = np.zeros(3), np.zeros(4)
        self._mujoco.mju_negPose(*back, *outer)
        return self._product(back, inner)

    def _product(self, first: Pose, second: Pose) -> Pose:
        made: Pose = np.zeros(3), np.zeros(4)
        self._mujoco.mju_mulPose(*made, *first, *second)
        return made

    def _isometry(self, pose: Pose) -> Any:
        rotation = self._rapier.Rotation3(*pose[1].tolist())
        return self._rapier.Isometry3(tuple(pose[0].tolist()), rotation)

    def _mass(self, root: int) -> Any:
        """Of all bodies that are welded to one."""
        model, made, here = self._model, self._rapier.MassProperties.zero(), self._place(root)
        for body in range(model.nbody):
            if model.body_weldid[body] != root or model.body_mass[body] <= 0:
                continue
            own = self._rapier.MassProperties(
                tuple(model.body_ipos[body].tolist()),
                float(model.body_mass[body]),
                tuple(model.body_inertia[body].tolist()),
                self._rapier.Rotation3(*model.body_iquat[body].tolist()),
            )
            made = made + own.transform_by(self._isometry(self._within(here, self._place(body))))
        return made

    def _add_body(self, body: int) -> None:
        model, rapier = self._model, self._rapier
        builder = rapier.RigidBody.dynamic().can_sleep(False)
        builder = builder.position(self._isometry(self._place(body)))
        builder = builder.additional_mass_properties(self._mass(body))
        handle = self._world.add_body(builder.gravity_scale(1 - float(model.body_gravcomp[body])))
        self._bodies[body] = handle
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        if named(self._mujoco.mjtJoint, model.jnt_type[first]) == "FREE":
            at, dof = int(model.jnt_qposadr[first]), int(model.jnt_dofadr[first])
            self._free.append(_Free(handle, at, dof))
            return
        above = int(model.body_parentid[body])
        root = int(model.body_weldid[above])
        base = self._within(self._place(root), self._place(above))
        base = self._product(base, (model.body_pos[body].copy(), model.body_quat[body].copy()))
        parent = self._bodies[root]
        for number in range(first, first + count):
            # of several joints, all but the last carry a body that weighs nothing
            is_last = number == first + count - 1
            child = handle if is_last else self._world.add_body(self._weightless(body))
            self._add_joint(number, parent, child, base, touches=root == 0 and count == 1)
            parent, base = child, (np.zeros(3), np.array([1.0, 0.0, 0.0, 0.0]))

    def _weightless(self, body: int) -> Any:
        builder = self._rapier.RigidBody.dynamic().can_sleep(False)
        return builder.position(self._isometry(self._place(body)))

    def _add_joint(
        self, number: int, parent: Any, child: Any, base: Pose, *, touches: bool
    ) -> None:
        model, rapier = self._model, self._rapier
        hinge = named(self._mujoco.mjtJoint, model.jnt_type[number]) == "HINGE"
        made = self._joint_of(number, base, hinge=hinge, touches=touches)
        self._world.multibody_joints.insert(parent, child, made)
        axis = rapier.JointAxis.ANG_X if hinge else rapier.JointAxis.LIN_X
        at, dof = int(model.jnt_qposadr[number]), int(model.jnt_dofadr[number])
        self._joints.append(
            _Joint(number, child, parent, 0, axis, 3 if hinge else 0, at, dof, None)
        )

    def _joint_of(self, number: int, base: Pose, *, hinge: bool, touches: bool) -> Any:
        """A joint along the X axis of its two frames, at 0 where the model's is at qpos0.

        base: the frame of its body in its parent's. touches: both bodies may.
        """
        model, rapier = self._model, self._rapier
        turn = np.zeros(4)
        self._mujoco.mju_quatZ2Vec(turn, model.jnt_axis[number])
        to_z = np.array([math.sqrt(0.5), 0.0, -math.sqrt(0.5), 0.0])  # its X axis is Z
        own: Pose = model.jnt_pos[number].copy(), np.zeros(4)
        self._mujoco.mju_mulQuat(own[1], turn, to_z)
        masks = rapier.JointAxesMask
        locked = masks.LOCKED_REVOLUTE_AXES if hinge else masks.LOCKED_PRISMATIC_AXES
        builder = rapier.GenericJointBuilder(locked)
        builder = builder.local_frame1(self._isometry(self._product(base, own)))
        builder = builder.local_frame2(self._isometry(own)).contacts_enabled(touches)
        if model.jnt_limited[number]:
            low, high = model.jnt_range[number] - model.qpos0[model.jnt_qposadr[number]]
            axis = rapier.JointAxis.ANG_X if hinge else rapier.JointAxis.LIN_X
            builder = builder.limits(axis, float(low), float(high))
        return builder.build()

    def _add_collider(self, geom: int) -> None:
        model, rapier, data = self._model, self._rapier, self._data
        quat = np.zeros(4)
        self._mujoco.mju_mat2Quat(quat, data.geom_xmat[geom])
        root = int(model.body_weldid[model.geom_bodyid[geom]])
        pose = self._within(self._place(root), (data.geom_xpos[geom].copy(), quat))
        kind, size = (
            named(self._mujoco.mjtGeom, model.geom_type[geom]),
            [float(one) for one in model.geom_size[geom]],
        )
        shapes = rapier.SharedShape
        match kind:
            case "PLANE":
                shape = shapes.halfspace((0.0, 0.0, 1.0))
            case "SPHERE":
                shape = shapes.ball(size[0])
            case "CAPSULE":
                shape = shapes.capsule_z(size[1], size[0])
            case "CYLINDER":  # Rapier's stands along Y
                shape = shapes.cylinder(size[1], size[0])
                pose = self._product(
                    pose, (np.zeros(3), np.array([math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0]))
                )
            case "BOX":
                shape = shapes.cuboid(*size)
            case _:
                mesh = int(model.geom_dataid[geom])
                first, count = int(model.mesh_vertadr[mesh]), int(model.mesh_vertnum[mesh])
                shape = shapes.convex_hull(model.mesh_vert[first : first + count])
        friction = float(model.geom_friction[geom][0]) if model.geom_condim[geom] > 1 else 0.0
        groups = rapier.InteractionGroups(
            rapier.Group(int(model.geom_contype[geom])),
            rapier.Group(int(model.geom_conaffinity[geom])),
            rapier.InteractionTestMode.OR,
        )
        builder = rapier.Collider.new(shape).density(0.0).position(self._isometry(pose))
        builder = builder.friction(friction).collision_groups(groups)
        builder = builder.friction_combine_rule(rapier.CoefficientCombineRule.MAX)
        body = int(model.geom_bodyid[geom])
        if self._excluded.asks_for(body):
            builder = builder.active_hooks(rapier.ActiveHooks.FILTER_CONTACT_PAIR)
        self._excluded.add(self._world.add_collider(builder, self._bodies[root]), body)

    def _start_joints(self) -> None:
        """Each joint where the model's state has it, with its damping and armature."""
        model, bodies, joints = self._model, self._world.rigid_bodies, self._world.multibody_joints
        roots: dict[int, Any] = {}
        for at, joint in enumerate(self._joints):
            found = joints.rigid_body_link(joint.body)
            multibody = roots.setdefault(
                found.multibody.index, joints.get_multibody(found.multibody)
            )
            self._joints[at] = joint._replace(link=found.id, multibody=multibody)
        for multibody in roots.values():
            multibody.forward_kinematics(bodies, True)  # the root gets its own freedom
            start, damping, armature = ([0.0] * multibody.ndofs for _ in range(3))
            for joint in self._joints:
                if joint.multibody is multibody:
                    slot = multibody.get_link(joint.link).assembly_id
                    start[slot] = float(self._data.qpos[joint.at] - model.qpos0[joint.at])
                    damping[slot] = float(np.ravel(model.dof_damping[joint.dof])[0])
                    armature[slot] = float(model.dof_armature[joint.dof])
            multibody.set_damping(damping)
            multibody.set_armature(armature)
            multibody.apply_displacements(start)
            multibody.forward_kinematics(bodies, False)
            multibody.update_rigid_bodies(bodies, True)

    # ---- actuators ---------------------------------------------------------------------------

    def _drive_of(self, number: int) -> _Drive:
        """The joint that an actuator moves, with its motor set up where it is a drive."""
        model, rapier = self._model, self._rapier
        joint = next(j for j in self._joints if j.number == model.actuator_trnid[number][0])
        unit = float(model.actuator_gear[number][0])
        holds = bool(np.any(model.actuator_biasprm[number][1:3]))
        if holds:
            self._set_motor(joint, (0.0, 0.0, 0.0, 0.0))
            model_of_motor = rapier.MotorModel.FORCE_BASED
            joint.multibody.set_link_motor_model(joint.link, joint.axis, model_of_motor)
        return _Drive(joint, unit, holds)

    def _set_motor(self, joint: _Joint, motor: tuple[float, ...]) -> None:
        """Its effort is k * (place - q) + d * (speed - v)."""
        joint.multibody.set_link_motor(joint.link, joint.axis, *motor)

    def _motor(self, drive: _Drive, number: int, control: float) -> tuple[float, ...]:
        """Place, speed, k and d of a drive, with the gains that the model has now."""
        model, unit = self._model, drive.unit
        bias = model.actuator_biasprm[number].tolist()
        push = unit * (float(model.actuator_gainprm[number][0]) * control + bias[0])
        k, d = -bias[1] * unit**2, -bias[2] * unit**2
        place = push / k - float(model.qpos0[drive.joint.at]) if k else 0.0
        return place, (push / d if d and not k else 0.0), k, d

    def _actuate(self) -> list[tuple[_Joint, float]]:
        """Set the drives' targets; the efforts that the motors exert besides."""
        model, controls = self._model, self._data.ctrl.copy()
        limited = model.actuator_ctrllimited.astype(bool)
        low, high = model.actuator_ctrlrange.T
        controls[limited] = np.clip(controls, low, high)[limited]
        efforts: dict[int, float] = {}
        for number, drive in enumerate(self._drives):
            control, at_most = float(controls[number]), math.inf
            if model.actuator_forcelimited[number]:
                at_most = float(model.actuator_forcerange[number][1])
            if drive.holds:
                self._tell(drive, number, control, abs(drive.unit) * at_most)
                continue
            force = float(model.actuator_gainprm[number][0]) * control
            force += float(model.actuator_biasprm[number][0])
            if at_most < math.inf:
                force = float(np.clip(force, *model.actuator_forcerange[number]))
            joint = drive.joint.number
            efforts[joint] = efforts.get(joint, 0.0) + drive.unit * force
        return [
            (joint, float(np.clip(efforts[joint.number], -most, most)))
            for joint in self._joints
            if joint.number in efforts
            for most in [self._most(joint)]
        ] + [(joint, self._passive_effort(joint)) for joint in self._passive]

    def _most(self, joint: _Joint) -> float:
        """The largest effort of a joint's actuators together."""
        limited = self._model.jnt_actfrclimited[joint.number]
        return float(self._model.jnt_actfrcrange[joint.number][1]) if limited else math.inf

    def _tell(self, drive: _Drive, number: int, control: float, at_most: float) -> None:
        """Tell a drive's motor what has changed."""
        at_most = min(at_most, self._most(drive.joint))
        motor = (*self._motor(drive, number, control), at_most)
        if motor == drive.motor:
            return
        self._set_motor(drive.joint, motor[:4])
        if at_most < math.inf:
            link, axis = drive.joint.link, drive.joint.axis
            drive.joint.multibody.set_link_motor_max_force(link, axis, at_most)
        drive.motor = motor

    def _passive_effort(self, joint: _Joint) -> float:
        """Of a joint's spring and of its dry friction, which is smooth about rest."""
        model, data, dof = self._model, self._data, joint.dof
        loss, speed = float(model.dof_frictionloss[dof]), float(data.qvel[dof])
        smooth = max(_SLOW, 2 * loss * float(model.opt.timestep * model.dof_invweight0[dof]))
        stiffness = float(np.ravel(model.jnt_stiffness[joint.number])[0])
        stretch = float(data.qpos[joint.at] - model.qpos_spring[joint.at])
        return -stiffness * stretch - loss * math.tanh(speed / smooth)

    def _push(self, efforts: list[tuple[_Joint, float]]) -> None:
        """Exert efforts on joints: on the body, and the opposite on the one that carries it."""
        bodies = self._world.rigid_bodies
        for body in {j.body for j, _ in efforts} | {j.parent for j, _ in efforts}:
            bodies[body].reset_torques()
            bodies[body].reset_forces()
        for joint, effort in efforts:
            own, other = bodies[joint.body], bodies[joint.parent]
            axis = self._model.jnt_axis[joint.number]
            turned = own.rotation.transform_vector(tuple(axis.tolist()))
            push = (turned.x * effort, turned.y * effort, turned.z * effort)
            back = (-push[0], -push[1], -push[2])
            if joint.slot == 3:
                own.add_torque(push)
                other.add_torque(back)
            else:
                place = own.center_of_mass
                own.add_force_at_point(push, place)
                other.add_force_at_point(back, place)

    # ---- stepping ----------------------------------------------------------------------------

    def step(self) -> None:
        """One step of the model's present length, and its state into MuJoCo's data."""
        model, data = self._model, self._data
        step_s, gravity = float(model.opt.timestep), tuple(model.opt.gravity.tolist())
        if (step_s, gravity) != self._set:
            self._parameters.dt, self._world.gravity = step_s, gravity
            self._set = step_s, gravity
        self._push(self._actuate())
        self._world.step()
        data.time += step_s
        self.copy_state()

    def copy_state(self) -> None:
        """Joints and free bodies as qpos and qvel."""
        qpos, qvel, qpos0 = self._data.qpos, self._data.qvel, self._model.qpos0
        for joint in self._joints:
            link = joint.multibody.get_link(joint.link)
            qpos[joint.at] = qpos0[joint.at] + link.coords[joint.slot]
            qvel[joint.dof] = joint.multibody.joint_velocity(link)[0]
        bodies = self._world.rigid_bodies
        for free in self._free:
            body = bodies[free.body]
            place, turn, spin = body.translation, body.rotation, body.angvel
            speed = body.velocity_at_point(place)
            local = turn.inverse().transform_vector(spin)
            qpos[free.at : free.at + 3] = place.x, place.y, place.z
            qpos[free.at + 3 : free.at + 7] = turn.w, turn.i, turn.j, turn.k
            qvel[free.dof : free.dof + 3] = speed.x, speed.y, speed.z
            qvel[free.dof + 3 : free.dof + 6] = local.x, local.y, local.z

    @property
    def is_sound(self) -> bool:
        """False if its numbers are none: not finite, absurd, or cut by Rapier."""
        qpos, qvel = self._data.qpos, self._data.qvel
        sound = bool((np.abs(qpos) < _LARGEST).all() and (np.abs(qvel) < _LARGEST).all())
        if not sound or not self._world.quarantine.is_empty():
            return False
        speeds = [qvel[free.dof : free.dof + 3] for free in self._free]
        return all(float(np.linalg.norm(one)) < 0.99 * _FASTEST for one in speeds)
