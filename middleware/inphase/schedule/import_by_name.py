"""Import what a schedule names: `file.py:name` beside the schedule, or `module:name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from inphase.errors import ScheduleError


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


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ScheduleError(f"{path}: no such file; a policy's file stands beside its schedule")
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
    """The innermost line where it was raised, as the end of a sentence."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else ""


def _failed(where: str, error: BaseException) -> ScheduleError:
    """An import that raised."""
    return ScheduleError(
        f"{where}: cannot be imported: {type(error).__name__}: {error}{place_of(error)}; "
        f"correct the file, or install what it imports"
    )
