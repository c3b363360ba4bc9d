"""The command that compares an estimate of poses with a tracker's, out of a recording."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from inphase.command.score.alignment import Score
    from inphase.command.score.recorded_poses import Taken


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--estimate",
    required=True,
    help="what is judged: a sensor with poses, or FILE.py:FUNCTION of a frame",
)
@click.option("--truth", required=True, help="the tracker, likewise")
@click.option("--estimate-body", default="", help="which body of it  [default: the first]")
@click.option("--truth-body", default="", help="which body of it  [default: the first]")
@click.option(
    "--frames",
    type=click.Choice(["none", "se3", "hand-eye"]),
    default="se3",
    show_default=True,
    help="what may differ: nothing, the frame of reference, or also the point and axes on the body",
)
@click.option(
    "--max-lag",
    "lag_ms",
    type=click.FloatRange(0, 10_000),
    default=200.0,
    show_default=True,
    help="ms: the largest lag of the estimate that is looked for; 0: none",
)
@click.option("--picture", type=click.Path(path_type=Path), help="errors over time, PNG or SVG")
@click.option("--json", "as_json", is_flag=True, help="as JSON on stdout")
def score(
    *,
    file: Path,
    estimate: str,
    truth: str,
    estimate_body: str,
    truth_body: str,
    frames: Any,
    lag_ms: float,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Compare an estimate of poses in the recording FILE with a tracker's, as ground truth.

    Samples are taken at their acquisition. The lag of the estimate and what differs between the
    frames of reference are found by the least error, and said; the errors are what is left. A
    function takes a frame, and gives time in ns, position and quaternion (w, x, y, z) or None.
    Exit code 12: there is too little to compare.
    """
    from inphase.command.score.alignment import score as compare
    from inphase.command.score.recorded_poses import poses
    from inphase.errors import RecordingError, install
    from inphase.host.standard_streams import print_json
    from inphase.recording.recording import Recording

    with Recording(file) as recording:
        judged = poses(recording, estimate, estimate_body)
        known = poses(recording, truth, truth_body)
    found = compare(judged.trajectory, known.trajectory, frames, lag_ms * 1e6)
    if as_json:
        print_json(facts(found, judged, known))
    else:
        for line in lines(found, judged, known):
            click.echo(line)
    if picture is not None:
        try:
            from inphase.command.score.picture import draw
        except ImportError as error:
            raise RecordingError(f"--picture: {error}; {install('matplotlib')}") from error
        draw(found, (estimate, truth), picture)
        click.echo(picture, err=as_json)


def facts(found: "Score", judged: "Taken", known: "Taken") -> dict[str, Any]:
    """The result as plain values: SI, and nanoseconds."""
    import numpy as np

    def spread(values: Any) -> dict[str, float] | None:
        if values is None:
            return None
        return {
            "rmse": float(np.sqrt((values**2).mean())),
            "p50": float(np.percentile(values, 50)),
            "p95": float(np.percentile(values, 95)),
            "max": float(values.max()),
        }

    moved = found.alignment
    return {
        "compared": len(found.errors_m),
        "estimate": {"used": judged.used, "seen": judged.seen},
        "truth": {"used": known.used, "seen": known.seen},
        "lag_ns": round(found.lag_ns),
        "position_m": spread(found.errors_m),
        "orientation_rad": spread(found.errors_rad),
        "frame": {"turn": moved.turn.tolist(), "shift_m": moved.shift.tolist()},
        "body": {"turn": moved.body_turn.tolist(), "shift_m": moved.body_shift.tolist()},
    }


def lines(found: "Score", judged: "Taken", known: "Taken") -> list[str]:
    """The result for a person."""
    told = facts(found, judged, known)
    position, turned = told["position_m"], told["orientation_rad"]
    said = [
        f"compared: {told['compared']} poses; {judged.used} of {judged.seen} samples of the "
        f"estimate and {known.used} of {known.seen} of the truth could be used",
        f"lag: the estimate's stamps are {abs(found.lag_ns) * 1e-6:.3f} ms "
        f"{'later' if found.lag_ns >= 0 else 'earlier'} than the truth's",
        "position [mm]: " + _spread(position, 1000.0),
    ]
    if turned is not None:
        said.append("orientation [deg]: " + _spread(turned, 57.29577951308232))
    return said


def _spread(values: dict[str, float], factor: float) -> str:
    named = {"rmse": "RMSE", "p50": "median", "p95": "95 % below", "max": "largest"}
    return ", ".join(f"{word} {values[key] * factor:.3g}" for key, word in named.items())
