"""Exported recordings in LeRobot's own loader: each row and picture, by `make lerobot-test`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from inphase.export.conversion import LEROBOT, convert  # noqa: E402
from inphase.export.lerobot.options import LeRobotOptions  # noqa: E402
from inphase.recording.recording import Recording  # noqa: E402
from recorded_runs import DEMO, ODD, record  # noqa: E402

RIG = ROOT / "schedules" / "rig.toml"
PYTHON = ROOT / "build" / "lerobot" / "bin" / "python"
BOUND_S = 600


def read(folder: Path, cache: Path) -> Any:
    """What LeRobot's loader gives of a dataset."""
    done = subprocess.run(
        [str(PYTHON), str(Path(__file__).with_name("read_lerobot.py")), str(folder), "pyav"],
        env=os.environ | {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        timeout=BOUND_S,
        check=True,
    )
    return json.loads(done.stdout)


def compare(found: Any, paths: list[Path], options: LeRobotOptions) -> None:
    """With the frames of the recordings, one after the other. Raises AssertionError."""
    rows = iter(found["rows"])
    count = 0
    for path in paths:
        with Recording(path) as recording:
            cameras = [n for n in recording.layout.sensors if n == "camera"]
            for frame in recording:
                row = next(rows)
                count += 1
                assert row["cycle"] == frame.cycle
                for name in recording.layout.sensors:
                    stamp = frame[name].acquired_ns
                    absent = -(1 << 63) if options.fill_absent else None
                    assert row["stamps"][f"inphase.{name}.acquired_ns"] == (
                        absent if stamp is None else stamp
                    )
                seen = [n for n in recording.layout.sensors if n not in ("camera", "mute")]
                if all(frame[name].sequence >= 0 for name in seen):
                    parts = [frame[n][f] for n in seen for f in frame[n].value.dtype.names or ()]
                    wanted = np.concatenate([np.ravel(one) for one in parts]).astype(np.float32)
                    np.testing.assert_array_equal(row["state"], wanted)
                for name in cameras:
                    compare_picture(row["pictures"][f"observation.images.{name}"], frame[name])
    assert next(rows, None) is None
    assert found["length"] == count
    assert found["last"] == {"index": count - 1, "task": options.task}


def compare_picture(found: list[float], sample: Any) -> None:
    """Shape and mean brightness: no other picture of these runs has the same."""
    image = sample["image"] if sample.sequence >= 0 else np.zeros((12, 16, 3))
    height, width, colours = image.shape
    assert found[:3] == [colours, height, width]
    assert abs(found[3] - image.mean() / 255) < 0.02, (found[3], image.mean() / 255)


def edited_and_trained(folder: Path) -> bool:
    """LeRobot's tools join two datasets of a robot with a camera and an arm, and ACT learns."""
    record(RIG, 400, folder / "rig.mcap")
    options = LeRobotOptions("move", every=10, complete=True, fill_absent=True)
    made = [folder / "rig-one", folder / "rig-two"]
    for one in made:
        convert([folder / "rig.mcap"], one, LEROBOT, options, lambda *_: None)
    work = folder / "work"
    work.mkdir()
    done = subprocess.run(
        [str(PYTHON), str(Path(__file__).with_name("train_lerobot.py")), *map(str, (*made, work))],
        env=os.environ | {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"},
        timeout=BOUND_S,
        check=False,
    )
    return done.returncode == 0


def main() -> None:
    """Print a line for each dataset; exit code 1 where something differs."""
    cases = {
        "demo": (["demo"], LeRobotOptions("wave")),
        "video": (["odd", "odd"], LeRobotOptions("look")),
        "png": (["odd"], LeRobotOptions("look", images="png")),
        "filled": (["odd"], LeRobotOptions("look", fill_absent=True)),
        "long": (["slow"], LeRobotOptions("wait", fill_absent=True)),
    }
    failures = 0
    with tempfile.TemporaryDirectory(prefix="inphase-test-") as name:
        folder = Path(name)
        slow = ODD.replace("rate_hz = 100", "rate_hz = 1").replace(
            "_age_ms = ", "_age_ms = 20000 #"
        )
        for robot, text, cycles in (("odd", ODD, 200), ("slow", slow, 2300)):
            (folder / f"{robot}.toml").write_text(text)
            record(folder / f"{robot}.toml", cycles, folder / f"{robot}.mcap")
        record(DEMO, 1000, folder / "demo.mcap")
        for case, (robots, options) in cases.items():
            paths = [folder / f"{robot}.mcap" for robot in robots]
            convert(paths, folder / case, LEROBOT, options, lambda *_: None)
            try:
                found = read(folder / case, folder / "cache")
                compare(found, paths, options)
                taken = found["batches"] == found["length"]
                assert taken == options.fill_absent, found["batches"]
            except (AssertionError, KeyError, ValueError, subprocess.SubprocessError) as error:
                print(f"{case}: {error!r}")
                failures += 1
                continue
            print(
                f"{case}: {found['length']} rows in {found['episodes']} episodes, {found['policy']}"
            )
        failures += not edited_and_trained(folder)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
