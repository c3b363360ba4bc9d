"""A page of a robot in lock step: its process, and clients of HTTP and WebSocket."""

import contextlib
import hashlib
import http.client
import json
import re
import shutil
import ssl
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

import inphase
from inphase.access.browsers import Browsers
from inphase.access.keys import KeyFolder, May
from inphase.episodes.lockstep import LockStep
from inphase.frames.store import Segment
from inphase.host.process import Process
from peers import BOUND_S, ROOT

SCHEDULES = ROOT / "schedules"


class ServedPage:
    """The demo's robot, or another ready one's, and the process of its page."""

    def __init__(
        self,
        folder: Path,
        schedule: str = "demo.toml",
        address: str = "127.0.0.1:0",
        modules: Path | None = None,
        *,
        access: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """modules: a folder whose modules the process has instead of those that are installed.
        access: keys and certificate, as the process takes them."""
        self._undo = contextlib.ExitStack()
        for name in ("demo_policy.py", "arm.xml"):
            shutil.copy(SCHEDULES / name, folder)
        path = folder / "robot.toml"
        path.write_text((SCHEDULES / schedule).read_text())
        self.robot = self._undo.enter_context(LockStep(inphase.load(path)))
        wishes = Segment.client_page(self.robot.core.epoch)
        self._undo.callback(wishes.close)
        arguments = [str(path), self.robot.core.segment.path, str(wishes.fd), address]
        self.process = Process(
            "page",
            "inphase.web",
            [*arguments, *access],
            [wishes.fd],
            modules,
            environment=environment,
        )
        self._undo.callback(self.process.stop)
        self.process.wait_ready()
        self.address, _, self.where = self.process.said.partition(" ")

    @classmethod
    def at(cls, said: str) -> Self:
        """The page of a robot that runs, by what its run says: to be asked, and not to be ended."""
        found = re.search(r"page: http://(\S+)/", said)
        assert found
        made = cls.__new__(cls)
        made.address = found[1]
        return made

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.address.partition(":")
        return host, int(port)

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://{self.address}"

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer. headers: with _ for -."""
        line = self._line()
        with contextlib.closing(line):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            line.request(method, path, body, named)
            answer = line.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()

    def _line(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=BOUND_S)

    def watch(self, **options: Any) -> ClientConnection:
        """A viewer, as a browser connects."""
        asked: dict[str, Any] = {"origin": self.url, "compression": None, "open_timeout": BOUND_S}
        return connect(f"{self.url.replace('http', 'ws')}/api/live", **(asked | options))

    def message(self, viewer: ClientConnection, kind: str) -> dict[str, Any]:
        """The next one of a kind; cycles are run until it comes."""
        while True:
            self.robot.run(20)
            with contextlib.suppress(TimeoutError):
                came = viewer.recv(0.1)
                if isinstance(came, str) and (found := json.loads(came))["kind"] == kind:
                    return dict(found)

    def image(self, viewer: ClientConnection) -> bytes:
        """The next image; cycles are run until it comes."""
        while True:
            self.robot.run(20)
            with contextlib.suppress(TimeoutError):
                came = viewer.recv(0.1)
                if isinstance(came, bytes):
                    return came

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()


class NetworkPage(ServedPage):
    """A page for those who have a key, over TLS; on loopback, so that no test needs a network.

    users: who is given a key, and may do what. files: the certificate and its key.
    """

    def __init__(
        self,
        folder: Path,
        users: Mapping[str, May],
        files: Sequence[Path] = (),
        address: str = "127.0.0.1:0",
    ) -> None:
        self.keys = KeyFolder(folder / "keys")
        for name, may in users.items():
            self.keys.create(name, may, folder / f"{name}.key")
        self.browsers = Browsers(self.keys.folder)
        state = folder / "state"
        super().__init__(
            folder,
            address=address,
            access=[str(self.keys.folder), *map(str, files)],
            environment={"XDG_STATE_HOME": str(state)},
        )
        self.log = state / "inphase" / "pages" / "demo"
        self.fingerprint = self.where.rpartition(" ")[2]
        digest = hashlib.sha256(self.keys.server().public.encode()).hexdigest()
        self.cookie_name = f"__Host-inphase-{digest[:8]}"

    @property
    def url(self) -> str:
        """Of the page."""
        return f"https://{self.address}"

    def _line(self) -> http.client.HTTPConnection:
        context = ssl._create_unverified_context()
        return http.client.HTTPSConnection(self.address, timeout=BOUND_S, context=context)

    def watch(self, **options: Any) -> ClientConnection:
        """A viewer, as a browser connects."""
        return super().watch(**({"ssl": ssl._create_unverified_context()} | options))

    def sign_in(self, user: str) -> str:
        """The cookie of a new session."""
        word = self.browsers.link(user)
        answer = self.ask("/api/sign-in", "POST", Origin=self.url, X_Inphase_Link=word)
        assert answer[0] == HTTPStatus.OK, answer
        return answer[1]["set-cookie"].partition(";")[0]
