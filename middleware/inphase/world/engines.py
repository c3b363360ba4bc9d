"""The worlds that a schedule can choose with `engine`: one function makes the right one."""

from inphase.plan.plan import Plan
from inphase.world.mujoco.world import MujocoWorld


def make_world(plan: Plan) -> MujocoWorld:
    """The world of a plan. Raises ScheduleError, WorldError."""
    assert plan.schedule.world is not None
    if plan.schedule.world.engine == "rapier":
        from inphase.world.rapier.world import RapierWorld  # of an extra

        return RapierWorld(plan)
    return MujocoWorld(plan)
