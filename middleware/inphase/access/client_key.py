"""The key of a user as a file that the user takes home, and a socket that shows it (CURVE)."""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from inphase.access import private_file
from inphase.errors import AccessError

_FILE_BYTES = 4096


class ClientKey(NamedTuple):
    """A user's key pair, and the public key of the service that it is for; all in Z85."""

    name: str
    public: str
    secret: str
    server: str

    @classmethod
    def load(cls, path: str | Path) -> "ClientKey":
        """Read a client file that `inphase keys create` wrote.

        Raises AccessError, with the remedy: it is not there, others may read it, it was damaged.
        """
        place = Path(path).expanduser()
        content = private_file.read(place, _FILE_BYTES)
        try:
            read = msgspec.toml.decode(content, type=_ClientFile)
            derived = zmq.curve_public(read.secret.encode()).decode()
            zmq.curve_public(read.server.encode())  # it is 40 letters of Z85
        except (ValueError, zmq.ZMQError) as error:
            raise AccessError(
                f"{place} is no client file ({error}); ask for a new one: inphase keys create"
            ) from error
        if derived != read.public:
            raise AccessError(
                f"{place}: its public key is not that of its secret key; ask for a new file: "
                f"inphase keys create"
            )
        return cls(read.name, read.public, read.secret, read.server)

    def text(self) -> str:
        """The content of its file."""
        return (
            f"# The key of {self.name}. Whoever has this file is {self.name}: keep it, with mode\n"
            f"# 0600, and give it to nobody.\n"
            f'name = "{self.name}"\n'
            f'public = "{self.public}"\n'
            f'secret = "{self.secret}"\n'
            f"# the public key of the service: the client talks to nobody else\n"
            f'server = "{self.server}"\n'
        )

    def secure(self, socket: "zmq.Socket[Any]") -> None:
        """Have a socket show this key and accept the service's alone; before it connects."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())


class _ClientFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    public: str
    secret: str
    server: str
