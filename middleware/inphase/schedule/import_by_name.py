"""Import what a schedule names: `file.py:name` beside the schedule, or `module:name`."""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from inphase.errors import EXTRAS, ScheduleError, install


def resolve_call(call: str, folder: Path) -> object:
    """The object that `call` names. It runs the code of the file or module, so not in the runtime.

    A file is looked up in `folder`, the schedule's. It may import its neighbours, since its folder
    is put in front of `sys.path` in this process. Raises ScheduleError, which names file or module,
    attribute and the original exception.
    """
    place, colon, name = call.partition(":")
    if not (place and colon and name):
        raise ScheduleError(f'{call!r}: not a call; give "file.py:name" or "module:name"')
    if place.endswith(".py"):
        path = (folder / place).resolve()
        found: object = _import_file(path)
        where = str(path)
    else:
        found = _import_module(place)
        where = f"module {place}"

    for step in name.split("."):
        try:
            found = getattr(found, step)
        except AttributeError as error:
            raise ScheduleError(
                f"{where}: has no attribute {name!r} ({error}); define it there or correct {call!r}"
            ) from error
    return found


def find_module(name: str, folder: Path) -> None:
    """See that a module can be started with `folder` in front of `sys.path`. Only the packages that
    it is in are run. Raises ScheduleError.
    """
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    except (Exception, SystemExit) as error:
        raise _failed(f"module {name}", error) from error
    finally:
        sys.path[:] = before
    if found is None:
        raise ScheduleError(
            f"module {name}: is neither beside the schedule nor installed; correct the name"
        )


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ScheduleError(
            f"{path}: no such file; put it beside the schedule, or correct its name"
        )
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = f"inphase_call_{path.stem}"  # not the bare stem: json.py must not replace json
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScheduleError(f"{path}: not a Python file; give a name that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look the module up by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(str(path), error) from error
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _failed(f"module {name}", error) from error


def place_of(error: BaseException) -> str:
    """The innermost line where it was raised, as the end of a sentence; importing has none."""
    steps = [step for step in traceback.extract_tb(error.__traceback__) if _is_users(step.filename)]
    return f" in {steps[-1].filename}, line {steps[-1].lineno}" if steps else ""


def _is_users(file: str) -> bool:
    return file not in (__file__, importlib.__file__) and not file.startswith("<frozen importlib")


def _failed(where: str, error: BaseException) -> ScheduleError:
    """An import that raised."""
    remedy = "correct the file, or install what it imports"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in EXTRAS:
        remedy = install(str(error.name))
    return ScheduleError(
        f"{where}: cannot be imported: {type(error).__name__}: {error}{place_of(error)}; {remedy}"
    )
