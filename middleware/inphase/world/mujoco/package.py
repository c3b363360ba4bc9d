"""The package `mujoco` (extra `sim`): its versions, its renderer, its functions' addresses.

One build of the core serves all versions from 3.17 to before 5. It is handed addresses of functions
and of data, and links to nothing.
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from inphase.core.world_seam import Engine, StepGrid
from inphase.errors import WorldError, install

_OLDEST = (3, 17)
_RENDERER = "apt install libegl1 libgl1-mesa-dri libopengl0"


def package() -> Any:
    """The package `mujoco`, set to render off screen. Raises WorldError."""
    chosen = "MUJOCO_GL" in os.environ
    if not chosen:
        # a display is for windows: with it every process would look for GLFW, for seconds
        fallback = "glfw" if "DISPLAY" in os.environ else "disable"
        os.environ["MUJOCO_GL"] = "egl" if _has_egl() else fallback
    try:
        import mujoco
    except ImportError as error:
        raise WorldError(f"a world needs MuJoCo: {error}; {install('mujoco')}") from error
    except Exception as error:  # of half a renderer that MUJOCO_GL chose
        raise WorldError(
            f"MuJoCo's renderer cannot be loaded: {error}; {_RENDERER}, or set MUJOCO_GL=disable"
        ) from error
    version = tuple(int(part) for part in mujoco.__version__.split(".")[:2])
    if version < _OLDEST:
        raise WorldError(
            f"MuJoCo {mujoco.__version__} is older than {'.'.join(map(str, _OLDEST))}; "
            f"pip install -U 'inphase[sim]'"
        )
    if not chosen and _has_egl():
        # the package looks at the environment once, and somebody may have imported it before
        from mujoco import egl

        sys.modules[mujoco.Renderer.__module__].gl_context.GLContext = egl.GLContext
    return mujoco


@cache
def _has_egl() -> bool:
    """True for EGL with the functions of OpenGL, which are in a package of their own: importing
    MuJoCo's renderer fails without them."""
    return _loads("libEGL.so.1") and (_loads("libOpenGL.so.0") or _loads("libGL.so.1"))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def why_no_images() -> str | None:
    """Why cameras cannot be rendered here, and the remedy; None: nothing known."""
    package()
    if os.environ.get("MUJOCO_GL") == "disable" or not ("DISPLAY" in os.environ or _has_egl()):
        return f"there is no EGL to render with; {_RENDERER}"
    return None


def engine_of(mujoco: Any, model: Any, data: Any, grid: StepGrid) -> Engine:
    """The addresses with which the core steps a model. Raises WorldError for a version that is not
    known."""
    library = _library(mujoco)
    warning = data.warning.number
    return Engine(
        step=_function(library, "mj_step"),
        forward=_function(library, "mj_forward"),
        catch_errors=_function(library, "_mjPRIVATE_setTlsLogHandler"),
        model=int(model._address),
        data=int(data._address),
        timestep=timestep_address(mujoco, model),
        step_s=float(model.opt.timestep),
        steps=grid.steps,
        warning=int(warning.ctypes.data),
        warnings=len(warning),
        warning_stride=int(warning.strides[0]),
        fatal=(1 << len(warning)) - 1,
        clock=_place(library, "mjcb_time"),
    )


def timestep_address(mujoco: Any, model: Any) -> int:
    """Where the model keeps its time step: a double before `gravity`, found by changing it.

    The bindings give no address for it, and the options before `gravity` differ by version.
    """
    before = float(model.opt.timestep)
    gravity = int(model.opt.gravity.ctypes.data)
    candidates = [gravity - 8 * back for back in range(1, 16)]
    try:
        for probe in (0.012345, 0.0543210987):
            model.opt.timestep = probe
            candidates = [
                at for at in candidates if ctypes.c_double.from_address(at).value == probe
            ]
    finally:
        model.opt.timestep = before
    if len(candidates) != 1:
        raise WorldError(
            f"MuJoCo {mujoco.__version__}: the place of its time step is not known to "
            f"this version of inphase; use a version of MuJoCo that it was tested with"
        )
    return candidates[0]


def _library(mujoco: Any) -> ctypes.CDLL:
    """The library that the package has loaded already."""
    folder = Path(mujoco.__file__).parent
    # a package that was replaced by an older one can leave its library behind
    paths = sorted(folder.glob(f"libmujoco*{mujoco.__version__}*"))
    path = (paths or sorted(folder.glob("libmujoco*")))[0]
    return ctypes.CDLL(str(path))


def _function(library: ctypes.CDLL, name: str) -> int:
    """A function's address; 0: this version has none of that name."""
    try:
        found = getattr(library, name)
    except AttributeError:
        return 0
    return ctypes.cast(found, ctypes.c_void_p).value or 0


def _place(library: ctypes.CDLL, name: str) -> int:
    """A variable's address; 0: this version has none of that name."""
    try:
        return ctypes.addressof(ctypes.c_void_p.in_dll(library, name))
    except ValueError:
        return 0
