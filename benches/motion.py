"""Velocity discontinuities of a slow policy's motion: held, on lines and cubics, in joined chunks.

In lock step, the demo robot at 500 Hz. The policy knows the way that each joint should go, a wave
of 0.4 Hz, up to an error that is drawn anew for each answer (2 mrad, as of a network that is asked
twice), and takes 14 ms with a tail to 30 ms; it is the same one in each row. |dv| is how much the
velocity of the setpoint changes from one cycle to the next, the largest of all joints. Yardstick:
each command held until the next one. Behind: how far what was applied is from the wave, root of the
mean square. `python -m benches.motion --picture FILE` draws the joint that moves most.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benches import robot
from benches.machine import Options
from inphase import schedule as schedules
from inphase.episodes.lockstep import LockStep
from inphase.frame import Frame

_PERIOD_S = 0.002
_CYCLES = 10_000
_FROM = 1000  # the wave has begun, the latencies are known
_ERROR_RAD = 0.002
_INFERENCE = "{ lognormal = [14.0, 0.25], high = 30.0 }"
_START = np.array([0.3, -0.6, 0.9, -0.2, 0.5, 0.1])
_SIZE = np.array([0.3, 0.25, 0.2, 0.3, 0.15, 0.35])
_LATENCY = 10  # cycles: 20 ms
_QUANTILES = (0.5, 0.9, 0.99, 1.0)
_WIDTH, _HEIGHT = 900, 150


def _wave(cycles: NDArray[Any]) -> NDArray[np.float64]:
    """Where the joints should be; they start at rest."""
    t = np.asarray(cycles, float)[..., None] * _PERIOD_S
    grown = np.minimum(t / 1.5, 1.0) ** 2
    return _START + _SIZE * grown * np.sin(2 * np.pi * 0.4 * t)


def _rows(every: int) -> dict[str, dict[str, Any]]:
    """The keys of [policy] of each row."""
    chunk = {"chunk": 3 * every, "latency_cycles": 0}
    knots = {"chunk": 3 * every // 5, "chunk_every": 5, "latency_cycles": 0, "interpolate": "cubic"}
    blend = {"join": "blend", "blend_cycles": every}
    return {
        "held": {"latency_cycles": _LATENCY},
        "linear": {"latency_cycles": _LATENCY + every, "interpolate": "linear"},
        "cubic": {"latency_cycles": _LATENCY + every, "interpolate": "cubic"},
        "chunk, switch": {**chunk, "join": "switch"},
        "chunk, freeze": {**chunk, "join": "freeze"},
        "chunk, blend": {**chunk, **blend},
        "cubic chunk, switch": {**knots, "join": "switch"},
        "cubic chunk, blend": {**knots, **blend},
    }


class _Policy:
    """The wave at the cycles that its commands are for, with an error per answer."""

    def __init__(self, every: int, keys: dict[str, Any]) -> None:
        spacing = keys.get("chunk_every", 1)
        self._cycles = keys["latency_cycles"] + spacing * np.arange(keys.get("chunk", 1))
        self._generator = np.random.default_rng(7)

    def __call__(self, frame: Frame) -> NDArray[np.float64]:
        error = self._generator.normal(0, _ERROR_RAD, 6) if frame.cycle > 50 else 0.0
        answer = _wave(frame.cycle + self._cycles) + error
        return answer if len(answer) > 1 else answer[0]


def _run(every: int, keys: dict[str, Any], cycles: int) -> dict[str, Any]:
    """One row: what was requested and applied in every cycle, and the counts."""
    text = (robot.SCHEDULES / "demo.toml").read_text()
    text = text.replace('"demo_policy.py:', f'"{robot.SCHEDULES}/demo_policy.py:')
    said = "\n".join(f"{key} = {value!r}" for key, value in {"every": every, **keys}.items())
    text += said.replace("'", '"') + f"\n[timing]\npolicy.inference_ms = {_INFERENCE}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "demo.toml"
        path.write_text(text)
        described = schedules.load(path)
    requested, applied, limited = [], [], 0
    with LockStep(described, call=_Policy(every, keys), seed=3, digest=False) as run:
        while run.cycles < cycles:
            before = run.core.frames
            run.run(32)
            for number in range(before, run.core.frames):
                record = run.follower.reader.past(number)
                assert record is not None
                act = Frame(run.follower.layout, record, run.follower).command["arm"]
                requested.append(act.requested.copy())
                applied.append(act.applied.copy())
                limited += "LIMITED" in act.flags
        counts = run.follower.reader.counts()
    return {
        "requested": np.array(requested),
        "applied": np.array(applied),
        "limited": limited / len(requested),
        "counts": counts,
    }


def _steps(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """|dv| in rad/s per cycle, of the joint that has the largest; a cycle without a command repeats
    the one before."""
    filled = positions[_FROM:].copy()
    for row in range(1, len(filled)):
        if np.isnan(filled[row]).any():
            filled[row] = filled[row - 1]
    found: NDArray[np.float64] = np.abs(np.diff(filled, 2, axis=0)).max(axis=1) / _PERIOD_S
    return found


def _measure(
    rate_hz: int, name: str, keys: dict[str, Any], cycles: int
) -> tuple[dict[str, Any], Any]:
    ran = _run(round(1 / (_PERIOD_S * rate_hz)), keys, cycles)
    steps = _steps(ran["requested"])
    quantiles = [float(np.quantile(steps, q)) for q in _QUANTILES]
    # the act in frame n is of cycle n - 1
    behind = ran["applied"][_FROM:] - _wave(np.arange(_FROM - 1, len(ran["applied"]) - 1))
    rms_mrad = 1000 * float(np.sqrt(np.mean(behind**2)))
    counts = ran["counts"]
    print(
        f"{rate_hz:>3} Hz  {name:<20} {'  '.join(f'{q:9.4f}' for q in quantiles)}  "
        f"{100 * ran['limited']:5.1f} %  {rms_mrad:6.1f}  {counts['late_answers']:>4}  "
        f"{counts['stale']:>5}  {counts['missed']:>4}",
        flush=True,
    )
    result = {
        "name": f"motion, {rate_hz} Hz, {name}",
        "dv_rad_s": dict(zip(("p50", "p90", "p99", "max"), quantiles, strict=True)),
        "limited": ran["limited"],
        "behind_mrad": rms_mrad,
        **{key: counts[key] for key in ("late_answers", "stale", "missed", "starved")},
    }
    return result, ran["requested"]


def run(options: Options, picture: Path | None = None) -> list[dict[str, Any]]:
    """25 and 50 answers per second."""
    results, drawn = [], {}
    print(
        "                            |dv| of the setpoint [rad/s] per cycle\n"
        "policy  motion                     p50        p90        p99        max  limited  behind"
        "  late  stale  missed\n"
        "                                                                                [mrad]"
    )
    for rate_hz in (25, 50)[: options.many(2, 1)]:
        for name, keys in _rows(round(1 / (_PERIOD_S * rate_hz))).items():
            cycles = options.many(_CYCLES, 2 * _FROM)
            result, requested = _measure(rate_hz, name, keys, cycles)
            results.append(result)
            if rate_hz == 25:
                drawn[name] = requested
    if picture is not None:
        picture.write_text(_draw(drawn))
    return results


def _draw(drawn: dict[str, NDArray[np.float64]]) -> str:
    """The setpoint of one joint for half a second, and its velocity, as SVG: a row per motion."""
    window = slice(_FROM + 400, _FROM + 650)
    cycles = np.arange(window.start, window.stop)
    parts = []
    for row, (name, requested) in enumerate(drawn.items()):
        top = row * _HEIGHT
        position = requested[window, 5]
        velocity = np.diff(position, prepend=position[0]) / _PERIOD_S
        wave = _wave(cycles - 1)[:, 5]
        parts.append(f'<text x="8" y="{top + 18}">{name}</text>')
        spans = (wave.min() - 0.05, wave.max() + 0.05), (-3.0, 3.0)
        for values, left, span, colour in (
            (wave, 0, spans[0], "#bbb"),
            (position, 0, spans[0], "#06c"),
            (velocity, 1, spans[1], "#c30"),
        ):
            parts.append(_line(values, left * _WIDTH / 2, top, span, colour))
    height = len(drawn) * _HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13">\n<rect width="{_WIDTH}" height="{height}" '
        f'fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _line(
    values: NDArray[np.float64], left: float, top: float, span: tuple[float, float], colour: str
) -> str:
    low, high = span
    shown = np.clip(values, low, high)
    x = left + 10 + np.arange(len(values)) * (_WIDTH / 2 - 20) / len(values)
    y = top + _HEIGHT - 10 - (shown - low) / (high - low) * (_HEIGHT - 35)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.2"/>'


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benches.motion", description=__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the rows of 25 Hz, SVG")
    run(Options(1, False, False, False), parser.parse_args().picture)
