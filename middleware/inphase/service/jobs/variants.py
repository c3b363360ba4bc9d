"""A served robot's schedule with an uploaded policy, in the rhythm of the schedule."""

import tomllib
from pathlib import Path
from typing import Any

from inphase.errors import ServiceError
from inphase.schedule import Schedule
from inphase.schedule.document import toml_value

_RHYTHM = ("every", "latency_cycles", "chunk", "chunk_every", "join", "blend_cycles", "interpolate")
_OWNERS = ("priority", "cpu", "threads")
_JOBS = ("inputs", "outputs", "normalise", "images", "state", "accepts", "align", "history")


def policy_table(described: Schedule, model: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The table of a job's policy: rhythm and resources are the owner's, the rest the job's.

    wanted: how the model is bound. Raises ServiceError for a key that is not a job's to say.
    """
    unknown = sorted(wanted.keys() - set(_JOBS))
    if unknown:
        raise ServiceError(
            f"a job says nothing of {', '.join(unknown)}; it says {', '.join(_JOBS)}, and the "
            f"robot's schedule has the rest"
        )
    own = tomllib.loads(described.text).get("policy", {})
    kept = {key: own[key] for key in (*_RHYTHM, *_OWNERS) if key in own}
    if model.suffix == ".onnx":
        return {**kept, **wanted, "model": model.name}
    if "weights" not in own or "call" not in own:
        raise ServiceError(
            f"{described.name} takes no .safetensors: its schedule names no module for them "
            f"([policy] call and weights); export the policy as ONNX"
        )
    kept |= {key: own[key] for key in ("call", "args") if key in own}
    return {**kept, **wanted, "weights": model.name}


def variant_text(described: Schedule, table: dict[str, Any]) -> str:
    """The schedule with that table as its policy. Raises ServiceError for what TOML cannot say."""
    raw = tomllib.loads(described.text)
    raw["policy"] = table
    try:
        return "".join(f"{key} = {toml_value(value)}\n" for key, value in raw.items())
    except (TypeError, ValueError, RecursionError) as error:
        raise ServiceError(
            f"the job's policy: {error}; it has numbers, texts, truth values, lists and tables"
        ) from error


def write_variant(described: Schedule, text: str, model: Path, folder: Path) -> Path:
    """Write that text as a schedule into a folder that is made; its path. Raises OSError.

    The model lies beside it, and links to what lies beside the robot's own schedule, which names
    files so.
    """
    own = described.path.resolve()
    folder.mkdir(parents=True)
    for beside in own.parent.iterdir():
        if beside.name != own.name:
            (folder / beside.name).symlink_to(beside)
    (folder / model.name).hardlink_to(model)
    path = folder / own.name
    path.write_text(text)
    return path
