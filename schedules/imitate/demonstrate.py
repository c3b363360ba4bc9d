"""Record demonstrations of push.toml: python schedules/imitate/demonstrate.py demos

The demonstrator is a script, in place of a person. Each episode is a run in lock step with its own
draws, and has a recording of its own: demos/push-0.mcap and so on. README.md says how a person
demonstrates. It wants: pip install 'inphase[onnx,record,sim]'
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
POLICY = """[policy]
call = "demonstrator.py:Demonstrator"
accepts = { joints = ["FRESH", "HELD", "LATE"], scene = ["FRESH", "HELD", "LATE"] }

"""
_POLICY = re.compile(r"(?ms)^\[policy\]\n.*?(?=^# ----)")


def schedule(folder: Path) -> Path:
    """push.toml with the demonstrator as its policy, written into a folder; its path."""
    for file in ("push.xml", "task.py", "demonstrator.py"):
        shutil.copy(HERE / file, folder)
    path = folder / "push.toml"
    path.write_text(_POLICY.sub(POLICY, (HERE / "push.toml").read_text()))
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Record them, one after the other."""
    parser = argparse.ArgumentParser(description="record demonstrations of push.toml")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=300, help="per episode")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    args.folder.mkdir(parents=True, exist_ok=True)
    path = schedule(args.folder)
    for episode in range(args.episodes):
        command = [sys.executable, "-m", "inphase", "run", "--lockstep", str(path), "--json"]
        command += ["--cycles", str(args.cycles), "--seed", str(args.seed)]
        command += ["--episode", str(episode), "--record", f"{args.folder}/push-{episode}.mcap"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"\r{episode + 1} of {args.episodes}", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
