"""The simulated arm of schedules/arm.toml, with what a test needs of it."""

import re
from pathlib import Path

from peers import ROOT

EYE = (r"\[device\.eye\]", r"\[sensor\.image\]", r"\[world\.sensor\.image\]")


def arm_schedule(
    folder: Path, *, camera: bool = False, timing: bool = False, more: str = ""
) -> Path:
    """Write the arm's schedule into `folder`; its path.

    camera, timing: keep those tables. more: further tables, which come last.
    """
    text = (ROOT / "schedules" / "arm.toml").read_text()
    text = text.replace('"arm.xml"', f'"{ROOT}/schedules/arm.xml"')
    text = text.replace('"demo_policy.py:', f'"{ROOT}/schedules/demo_policy.py:')
    if not camera:
        for table in EYE:
            text = re.sub(rf"(?ms)^{table}.*?(?=^\[)", "", text)
        text = re.sub(r"(?m)^sensors\.image = .*\n", "", text)
    if not timing:
        text = re.sub(r"(?ms)^\[timing\].*?(?=^\[|\Z)", "", text)
    path = folder / "arm.toml"
    path.write_text(text + "\n" + more)
    return path
