"""Real-time robot middleware: one schedule, one C cycle, frames in phase.

Names are imported when they are first used, so that `import inphase` costs next to nothing.
"""

from importlib import import_module

TYPE_CHECKING = False  # as type checkers know it: the module typing takes as long as all of this
if TYPE_CHECKING:
    from typing import Any

    from inphase.client.remote_robot import connect
    from inphase.episodes.rollout import rollout
    from inphase.episodes.rollouts.robot_crew import RobotWorker
    from inphase.episodes.rollouts.rollout_workers import RolloutWorkers
    from inphase.episodes.runner import Runner
    from inphase.episodes.task import batched, of_observation
    from inphase.frames.control import mark_episode
    from inphase.frames.frame import Frame
    from inphase.frames.subscription import subscribe
    from inphase.recording.recording import Recording
    from inphase.remote import serve_policy
    from inphase.schedule import load

    __version__: str

__all__ = [
    "Frame",
    "Recording",
    "RobotWorker",
    "RolloutWorkers",
    "Runner",
    "__version__",
    "batched",
    "connect",
    "load",
    "mark_episode",
    "of_observation",
    "rollout",
    "serve_policy",
    "subscribe",
]

_HOMES = {
    "Frame": "inphase.frames.frame",
    "Recording": "inphase.recording.recording",
    "RobotWorker": "inphase.episodes.rollouts.robot_crew",
    "RolloutWorkers": "inphase.episodes.rollouts.rollout_workers",
    "Runner": "inphase.episodes.runner",
    "batched": "inphase.episodes.task",
    "connect": "inphase.client.remote_robot",
    "load": "inphase.schedule",
    "mark_episode": "inphase.frames.control",
    "of_observation": "inphase.episodes.task",
    "rollout": "inphase.episodes.rollout",
    "serve_policy": "inphase.remote",
    "subscribe": "inphase.frames.subscription",
}


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        from importlib import metadata  # imported where it is used: as slow as a quarter of NumPy

        return metadata.version("inphase")
    if name in _HOMES:
        try:
            return getattr(import_module(_HOMES[name]), name)
        except ModuleNotFoundError as missing:
            from inphase.errors import of_missing_package

            error = of_missing_package(missing)
            if error is None:
                raise
            raise error from missing
    raise AttributeError(f"module 'inphase' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
