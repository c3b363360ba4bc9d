"""A project to start from: `inphase new project NAME` makes a folder that passes its own test.

It has a schedule, a policy with its test, and a file for CI. With a model of MuJoCo the schedule is
of that, else of two emulated servos.
"""

import shutil
from importlib import resources
from pathlib import Path

from inphase.command import policy_draft, schedule_draft
from inphase.command.scaffold import aligned, check_module_name, make_folder, write_new

_RENDERER = "      - run: sudo apt-get install -y libegl1 libgl1-mesa-dri libopengl0\n"
_IGNORED = "__pycache__/\n.venv/\n.pytest_cache/\n"


def new_project(name: str, folder: Path, model: Path | None) -> list[Path]:
    """Make `folder / name`, which must not exist; its files.

    model: an MJCF or URDF file, whose folder is copied into the project. Raises ScheduleError.
    """
    check_module_name(name, "project", folder)
    made = make_folder(folder / name)
    if model is None:
        schedule = made / f"{name}.toml"
        files = write_new({schedule: _template("robot.toml", name)})
        files += policy_draft.new_policy(f"{name}_policy", made, schedule)[:-1]
        extras, options, packages = "testing", "", ""
    else:
        copied = made / "model" / model.name
        shutil.copytree(model.parent, copied.parent)
        files = schedule_draft.new_schedule(copied, made / f"{name}.toml").files
        extras, options, packages = "sim,testing", "--simulate ", _RENDERER
    workflow = make_folder(made / ".github" / "workflows") / "test.yml"
    readme = aligned(_template("README.md", name).replace("RUN_OPTION", options))
    return files + write_new(
        {
            workflow: _template("test.yml", name).replace("SYSTEM_PACKAGES", packages),
            made / "requirements.txt": f"inphase[{extras}]\n",
            made / "README.md": readme,
            made / ".gitignore": _IGNORED,
        }
    )


def _template(file: str, name: str) -> str:
    text = resources.files("inphase.command").joinpath("templates/project", file).read_text()
    return text.replace("example", name)
