"""Count how many episodes of cable.toml are plugged in: python schedules/cable/show_cable.py"""

import argparse
from pathlib import Path

import inphase

HERE = Path(__file__).resolve().parent


def plugged(policy: str, episodes: int, seed: int, workers: int | None = None) -> list[float]:
    """Seconds that each took; infinity: it was not plugged in."""
    found = inphase.rollout(
        HERE / "cable.toml",
        f"{HERE / 'cable_policy.py'}:{policy}",
        episodes=episodes,
        seed=seed,
        workers=workers,
    )
    for one in found:
        if one.error is not None:
            raise SystemExit(one.error)
    return [one.cycles / 100 if one.terminated else float("inf") for one in found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1000)
    asked = parser.parse_args()
    for policy in ("Plug", "Blind"):
        took = sorted(plugged(policy, asked.episodes, asked.seed))
        done = [one for one in took if one < float("inf")]
        middle = f", {done[len(done) // 2]:.2f} s in the middle" if done else ""
        print(f"{policy}: {len(done)} of {len(took)} plugged in{middle}")
