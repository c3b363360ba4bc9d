"""The processes that clients talk to, as their supervisor sees them: the gateway and the page."""

import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from inphase.errors import install
from inphase.host.process import Process
from inphase.runtime.children import Children
from inphase.schedule import Schedule
from inphase.schedule.simulation_tables import Page

_NEEDS = ("starlette", "uvicorn", "websockets", "PIL")
_NEEDS_KEYS = ("cryptography", "ifaddr")  # of a page on the network
_ADDRESS = 3  # of the page's arguments
_AGAIN_S = 1.0  # from its start to that of the next one, if it ends; each time twice as long


class ClientProcesses:
    """The gateway, and the page. A page that ends is started again.

    page: None is none. Nobody waits for one of this host alone. say: takes a line for a person.
    Thread: the supervisor's.
    """

    def __init__(
        self,
        described: Schedule,
        page: Page | None,
        children: Children,
        say: Callable[[str], None],
    ) -> None:
        self._described = described
        self._page_table = page
        self._children = children
        self._say = say
        self._gateway: Process | None = None
        self._page: Process | None = None
        self._arguments: list[str] = []
        self._fd = -1
        self._is_told = False
        self._next_s = 0.0
        self._pause_s = _AGAIN_S

    def start(self, store_path: str, wishes_fd: int) -> None:
        """Start those that the schedule has. wishes_fd: the page of clients' wishes. Raises
        RuntimeFault where the gateway ends at its start, or a page with keys."""
        arguments = [str(self._described.path), store_path, str(wishes_fd)]
        if self._described.gateway is not None:
            self._gateway = self._children.start(
                "gateway", "inphase.runtime.gateway", arguments, pass_fds=[wishes_fd]
            )
        page = self._page_table
        if page is None:
            return
        needs = _NEEDS if page.keys is None else (*_NEEDS, *_NEEDS_KEYS)
        missing = [name for name in needs if find_spec(name) is None]
        if missing:
            self._say(f"no web page: it needs the package {missing[0]}; {install(missing[0])}")
            return
        self._arguments = [*arguments, page.address]
        for path in (page.keys, page.certificate, page.key):
            if path is not None:
                self._arguments.append(str(self._described.path.parent / Path(path).expanduser()))
        self._fd = wishes_fd
        self._start_page()
        if page.keys is not None:  # it is on the network, and a fault of its keys is one of the run
            assert self._page is not None
            self._children.wait_ready(self._page)
            self._tell_page()

    def ends_control(self, child: Process) -> bool:
        """True for the process by which clients stop the robot: the gateway, with `control`."""
        gateway = self._described.gateway
        return child is self._gateway and gateway is not None and gateway.control is not None

    def _start_page(self) -> None:
        self._page = Process("page", "inphase.web", self._arguments, [self._fd])
        self._children.add(self._page)
        self._next_s = time.monotonic() + self._pause_s
        self._pause_s *= 2

    def tend(self) -> None:
        """Say the page's address once it is there; start it again after its end."""
        if self._page is None:
            return
        if self._page.ended() is not None:
            if time.monotonic() > self._next_s:
                self._start_page()
        elif not self._is_told and self._page.is_ready():
            self._tell_page()

    def _tell_page(self) -> None:
        assert self._page is not None
        self._is_told = True
        if self._page.said:
            self._arguments[_ADDRESS], _, where = self._page.said.partition(" ")  # its viewers' one
            self._say(f"page: {where}")
