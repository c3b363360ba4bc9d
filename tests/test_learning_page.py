"""The page about learning says what works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from peers import ROOT
from worlds import needs_images

PAGE = (ROOT / "middleware" / "LEARNING.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@needs_images
@pytest.mark.parametrize("example", EXAMPLES, ids=["gymnasium", "many", "rollout", "workers"])
def test_an_example_of_the_page_runs_as_it_stands(tmp_path: Path, example: str) -> None:
    script = tmp_path / "example.py"
    script.write_text(example)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_key_of_an_info_is_on_the_page() -> None:
    source = (ROOT / "middleware" / "inphase" / "episodes" / "step_info.py").read_text()
    keys = set(re.findall(r'^            "(\w+)":', source, re.MULTILINE))
    assert len(keys) == 9
    assert not [key for key in keys if f"`{key}`" not in PAGE]


def test_the_readme_shows_the_same_example() -> None:
    assert EXAMPLES[0] in (ROOT / "README.md").read_text()
