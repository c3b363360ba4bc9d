"""Versions and files, which decide an episode's bytes beside seed and number: per worker."""

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from inphase.episodes.episode import Job
from inphase.errors import WorldError
from inphase.schedule import Schedule
from inphase.world.mujoco.package import package


@dataclass(frozen=True)
class WorkerFacts:
    """Of one process, for one job."""

    name: str
    """its node and number"""
    versions: dict[str, str]
    """of packages; of inphase also a hash of its sources"""
    files: dict[str, str]
    """path -> hash of what it has; empty where it is not there"""


def here(job: Job) -> WorkerFacts:
    """Of this process."""
    versions = {"inphase": f"{metadata.version('inphase')}-{_sources()}", "numpy": np.__version__}
    files = {str(path): _hash_of(path) for path in _named_files(job)}
    if job.schedule.world is not None:
        versions["mujoco"] = package().__version__
        if job.schedule.world.engine == "rapier":
            versions["rapier3d"] = metadata.version("rapier3d")
        model = job.schedule.path.parent / job.schedule.world.model
        files[str(model)] = _hash_of_model(model)
    return WorkerFacts(f"node {platform.node()}, process {os.getpid()}", versions, files)


def trouble(wanted: WorkerFacts, found: WorkerFacts) -> str | None:
    """Why a worker would run other episodes; None: it would not."""
    for package_name, version in wanted.versions.items():
        other = found.versions.get(package_name, "none")
        if other != version:
            return (
                f"it has {package_name} {other}, and the learner has {version}: the same episode "
                f"would be another one there; install the same version on each node"
            )
    for path, content in wanted.files.items():
        other = found.files.get(path, "")
        if not other:
            return (
                f"it has no file {path}; put the schedule's folder at the same path on each node: "
                f"in the image, or on a shared disk"
            )
        if other != content:
            return f"its file {path} is another one than the learner's; copy the folder there again"
    return None


@cache
def _sources() -> str:
    """A hash of this package's Python sources."""
    found, root = hashlib.sha256(), Path(__file__).parents[2]
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:8]


def _named_files(job: Job) -> list[Path]:
    """The files of Python and the models that a job names."""
    schedule: Schedule = job.schedule
    names = [job.policy, job.reduce, schedule.task.reward, schedule.task.terminated]
    files = [one.partition(":")[0] for one in names if isinstance(one, str) and ".py:" in one]
    if job.policy is None and schedule.policy is not None and schedule.policy.model is not None:
        files.append(schedule.policy.model)
    return [(schedule.path.parent / name).resolve() for name in dict.fromkeys(files)]


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _hash_of_model(path: Path) -> str:
    """Of the compiled model: also of the meshes and files that it includes."""
    if not path.is_file():
        return ""
    mujoco = package()
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except (ValueError, mujoco.FatalError) as error:
        raise WorldError(f"{platform.node()}: {path} does not load: {error}") from error
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return hashlib.sha256(buffer.tobytes()).hexdigest()
