"""A project to start from: `inphase new project NAME` makes a folder that passes its own test.

It has a schedule, a policy with its test, and a file for CI. With a model of MuJoCo the schedule is
of that, else of two emulated servos.
"""

import shutil
from importlib import resources
from pathlib import Path

from inphase.command.drafts import policy_draft, schedule_draft
from inphase.command.drafts.scaffold import aligned, check_module_name, make_folder, write_new
from inphase.errors import ScheduleError

_RENDERER = "      - run: sudo apt-get install -y libegl1 libgl1-mesa-dri libopengl0\n"
_IGNORED = "__pycache__/\n.venv/\n.pytest_cache/\n"
_NOT_OF_MODELS = {".py", ".pyc", ".toml", ".ipynb", ".mcap"}
_MOST_BYTES = 2**30
"""of a model's folder: more are somebody's home"""


def new_project(name: str, folder: Path, model: Path | None) -> list[Path]:
    """Make `folder / name`, which must not exist; its files.

    model: an MJCF or URDF file. Its folder is copied into the project, without Python, schedules
    and hidden files. Raises ScheduleError, and leaves nothing then.
    """
    check_module_name(name, "project", folder)
    made = make_folder(folder / name)
    try:
        return _fill(made, name, model)
    except ScheduleError:
        shutil.rmtree(made)
        raise


def _fill(made: Path, name: str, model: Path | None) -> list[Path]:
    if model is None:
        schedule = made / f"{name}.toml"
        files = write_new({schedule: _template("robot.toml", name)})
        files += policy_draft.new_policy(f"{name}_policy", made, schedule)[:-1]
        extras, options, packages = "testing", "", ""
    else:
        copied = made / "model" / model.name
        _copy_folder(model, copied.parent, made)
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


def _copy_folder(model: Path, to: Path, made: Path) -> None:
    """Copy a model's folder, which may be the one that the project is made in."""
    if not model.is_file():
        raise ScheduleError(f"{model}: no such file; give an MJCF or URDF file: --world FILE")
    size = 0

    def left_out(place: str, names: list[str]) -> set[str]:
        nonlocal size
        out = set()
        for path in (Path(place, name) for name in names):
            if path != model and (
                path.name.startswith((".", "__pycache__"))
                or path.suffix in _NOT_OF_MODELS
                or (path / "pyvenv.cfg").exists()
                or path.resolve() == made.resolve()
            ):
                out.add(path.name)
            elif path.is_file():
                size += path.stat().st_size
        if size > _MOST_BYTES:
            raise ScheduleError(
                f"the folder of {model} has more than 1 GiB, and is copied into the project; put "
                f"the model, with what it names, into a folder of its own"
            )
        return out

    try:
        shutil.copytree(model.parent, to, ignore=left_out, ignore_dangling_symlinks=True)
    except OSError as error:
        raise ScheduleError(
            f"the folder of {model} cannot be copied: {error}; put the model, with what it names, "
            f"into a folder of its own"
        ) from error


def _template(file: str, name: str) -> str:
    text = resources.files("inphase.command").joinpath("templates/project", file).read_text()
    return text.replace("example", name)
