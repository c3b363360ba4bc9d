"""The GitHub action and the GitLab template: their scripts are run as a runner runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from inphase.command.drafts.project_draft import new_project
from peers import ROOT

ACTION = ROOT / ".github/actions/inphase-bench/action.yml"
GITLAB = ROOT / "docs/static/inphase-bench.gitlab-ci.yml"
pytestmark = pytest.mark.real


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    done = subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A lab's repository with one commit."""
    new_project("cell", tmp_path, None)
    folder = tmp_path / "cell"
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **more}


def filled(text: str, inputs: dict[str, str]) -> str:
    """An expression of an action, as far as these use them."""
    return re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], str(text))


def run_action(repository: Path, **given: str) -> tuple[int, str, dict[str, str], str]:
    """Exit code, words, outputs and summary of the action's steps that are scripts."""
    action: dict[str, Any] = yaml.safe_load(ACTION.read_text())
    inputs = {name: str(one.get("default", "")) for name, one in action["inputs"].items()} | given
    output, summary = repository.parent / "output", repository.parent / "summary"
    output.write_text("")
    summary.write_text("")
    code, words = 0, ""
    for step in action["runs"]["steps"]:
        if "run" not in step or (step.get("if") == "inputs.baseline == ''" and inputs["baseline"]):
            continue
        assert step["shell"] == "bash"
        # as GitHub runs `shell: bash`
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=repository,
            env=environment(
                GITHUB_OUTPUT=str(output),
                GITHUB_STEP_SUMMARY=str(summary),
                **{key: filled(value, inputs) for key, value in step["env"].items()},
            ),
            capture_output=True,
            text=True,
            check=False,
        )
        code, words = done.returncode, words + done.stdout + done.stderr
        if code:
            break
    said = dict(line.split("=", 1) for line in output.read_text().splitlines())
    return code, words, said, summary.read_text()


def run_gitlab(repository: Path, **variables: str) -> tuple[int, str]:
    """Exit code and words of the template's script."""
    job = yaml.safe_load(GITLAB.read_text())[".inphase-bench"]
    assert job["before_script"] == ["pip install -r requirements.txt"]
    # one shell for all lines, which ends at the first that fails
    script = "\n".join(["set -eo pipefail", *job["script"]])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=repository,
        env=environment(**(job["variables"] | variables)),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def make_dear(repository: Path) -> None:
    """A second commit whose policy runs more instructions."""
    policy = repository / "rig_policy.py"
    line = "        # starts with zero velocity"
    text = policy.read_text()
    assert text.count(line) == 1
    policy.write_text(text.replace(line, "        for _ in range(500):\n            pass\n" + line))
    git(repository, "commit", "-qam", "second")


@pytest.mark.long
def test_a_change_of_documents_passes_and_a_dearer_policy_fails(repository: Path) -> None:
    (repository / "README.md").write_text("other words\n")
    git(repository, "commit", "-qam", "words")
    code, words, said, summary = run_action(repository, schedule="cell.toml", base="HEAD~1")
    assert code == 0, words
    assert said == {"exit-code": "0"}
    assert summary.startswith("**cell: no slower than the baseline**")
    made = {path.name for path in (repository / "inphase-bench").iterdir()}
    assert made == {"base.json", "now.json", "comparison.md", "comparison.png"}
    assert len(git(repository, "worktree", "list").splitlines()) == 1

    make_dear(repository)
    code, words, said, summary = run_action(
        repository, schedule="cell.toml", baseline="inphase-bench/base.json"
    )
    assert code == 1, words
    assert said == {"exit-code": "1"}
    assert "- policy: instructions, per cycle, were" in summary
    code, words = run_gitlab(repository, SCHEDULE="cell.toml", BASELINE="inphase-bench/base.json")
    assert code == 1 and "policy: instructions, per cycle, were" in words


@pytest.mark.long
def test_who_cannot_tell_passes_with_a_warning_or_fails_as_asked(repository: Path) -> None:
    text = (repository / "cell.toml").read_text()
    (repository / "cell.toml").write_text(text.replace('name = "cell"', 'name = "rig2"', 1))
    git(repository, "commit", "-qam", "another robot")
    code, words, said, summary = run_action(repository, schedule="cell.toml", base="HEAD~1")
    assert (code, said) == (0, {"exit-code": "17"}), words
    assert "::warning::inphase bench is undecided" in words
    assert "the baseline is of another schedule" in summary
    base = "inphase-bench/base.json"
    asked = {"schedule": "cell.toml", "baseline": base, "undecided": "fail"}
    assert run_action(repository, **asked)[0] == 17
    assert run_gitlab(repository, SCHEDULE="cell.toml", BASELINE=base)[0] == 0
    assert run_gitlab(repository, SCHEDULE="cell.toml", BASELINE=base, UNDECIDED="fail")[0] == 17


def test_a_schedule_that_is_not_there_fails_the_job_with_its_words(repository: Path) -> None:
    code, words, _, _ = run_action(repository, schedule="none.toml", base="HEAD")
    assert code == 2 and "none.toml" in words
    code, words = run_gitlab(
        repository, SCHEDULE="none.toml", CI_MERGE_REQUEST_DIFF_BASE_SHA="HEAD"
    )
    assert code == 2 and "none.toml" in words
