"""The window that shows a simulated world while it runs in real time, for a person to watch.

    python -m inphase.world.view SCHEDULE CHANNEL

It is a process of its own, with a copy of the world that is set to the states that the world's
process gives, like a stand-in's. Neither the world nor the cycle waits for a frame of it. A closed
window ends it, and the run goes on. CHANNEL: the number of its end of a channel.
"""

import contextlib
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from inphase import schedule as schedules
from inphase.errors import InphaseError, WorldError
from inphase.host import process
from inphase.plan import plan as planning
from inphase.world.mujoco import package as mujoco_package
from inphase.world.mujoco.world import MujocoWorld
from inphase.world.stand_in_channel import WorldLine

_FRAME_S = 1 / 30
_ANSWER_NS = 1_000_000_000
_NICE = 5  # a window without a graphics device takes whole cores, which the others need in time
NO_DISPLAY = (
    "there is no display, so no window shows the world; the run goes on (over ssh: ssh -X, or set "
    "DISPLAY)"
)


def has_display() -> bool:
    """True if a window may be opened; whether it can be is only known when it is."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


class Window:
    """A window of MuJoCo's passive viewer. The caller closes it. Raises WorldError, ScheduleError,
    and what the viewer raises where it cannot be opened."""

    def __init__(self, path: Path, channel: int) -> None:
        mujoco = mujoco_package.package()
        _open_display()
        from mujoco import viewer

        self._mujoco = mujoco
        self._line = WorldLine(channel, "view")
        self._world = MujocoWorld(planning.make(schedules.load(path)))
        self._state = int(mujoco.mjtState.mjSTATE_INTEGRATION)
        model, data = self._world.model, self._world.data
        self._viewer: Any = viewer.launch_passive(
            model, data, show_left_ui=False, show_right_ui=False
        )
        camera = next((i for i in range(model.ncam) if model.cam_mode[i] == 0), -1)
        if camera < 0:
            mujoco.mjv_defaultFreeCamera(model, self._viewer.cam)

    def show(self) -> bool:
        """Draw the present state; False: the window was closed, or the world is gone."""
        if not self._viewer.is_running():
            return False
        now_ns = time.monotonic_ns()
        self._line.ask(now_ns)
        state = self._line.receive(now_ns + _ANSWER_NS)
        if state is not None:
            model, data = self._world.model, self._world.data
            with self._viewer.lock():
                self._mujoco.mj_setState(model, data, state.numbers, self._state)
                self._mujoco.mj_forward(model, data)
            self._viewer.sync()
        return True

    def close(self) -> None:
        """Close the window."""
        self._viewer.close()


def _open_display() -> None:
    """Raise WorldError where it cannot be opened: the viewer would end the process then."""
    import glfw

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        opened = glfw.init()
    if not opened:
        raise WorldError("; ".join(str(one.message) for one in found) or "no window can be opened")


def main() -> None:
    """Entry of the process. It says in one line why it cannot show the world, and ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, channel = sys.argv[1:]
    os.nice(_NICE)
    os.environ.setdefault("LP_NUM_THREADS", "1")  # of Mesa's software renderer
    try:
        window = Window(Path(path), int(channel))
    except Exception as error:  # of the display, its libraries, or the model
        print(f"the world cannot be shown: {error}; the run goes on", file=sys.stderr)
        return
    process.say_ready()
    with contextlib.closing(window), contextlib.suppress(InphaseError):  # the world is gone
        while window.show():
            time.sleep(_FRAME_S)


if __name__ == "__main__":
    main()
