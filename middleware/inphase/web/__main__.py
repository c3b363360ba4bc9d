"""Entry of the page's process.

    python -m inphase.web SCHEDULE STORE PAGE_FD ADDRESS [KEYS [CERTIFICATE KEY]]

PAGE_FD: the page of clients' wishes, for the emergency stop. ADDRESS: host and port to listen at.
KEYS: the folder of keys of those who may sign in; without one the page is for this host.
CERTIFICATE and KEY: PEM files; without them one is made. INPHASE_SERVICE in the environment: the
service that keeps the robot up. The process ends with the runtime that starts it.

Its `ready` names where it listens, and then its addresses for a person.
"""

import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from inphase.access.browsers import Browsers, PageAddress
from inphase.access.keys import AllowList, KeyFolder
from inphase.client.place import SERVICE
from inphase.errors import AccessError, InphaseError
from inphase.frames import store
from inphase.host import process
from inphase.web.door import listening
from inphase.web.page_server import NetworkDoor, PageServer


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    schedule, store_path, page_fd, address, *access = sys.argv[1:]
    try:
        wishes = store.ClientPage(int(page_fd))
        listener = listening.listen(address, is_exact=bool(access))
        service = os.environ.get(SERVICE, "")
        network = _network(listener, Path(access[0]), access[1:]) if access else None
        server = PageServer(store_path, Path(schedule).parent, wishes, service, network)
        process.say_ready(_said(listener, server.robot, network))
        uvloop.run(server.serve(listener))
    except InphaseError as error:
        print(f"page: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _network(listener: socket.socket, folder: Path, files: list[str]) -> NetworkDoor:
    """Encrypted, and for those who have a key. Raises AccessError."""
    from inphase.web.door.certificate import Certificate, CertificateFiles
    from inphase.web.door.page_door import SignedInDoor

    keys = KeyFolder(folder).server()
    allowed = AllowList(folder)
    if not allowed.keys():
        raise AccessError(
            allowed.trouble
            or f"nobody has a key to sign in; make one: inphase keys create NAME --folder {folder}"
        )
    name = socket.gethostname().lower()
    hosts = [name, f"{name.partition('.')[0]}.local", "localhost", *listening.hosts_of(listener)]
    given = CertificateFiles(*files) if files else CertificateFiles("", "")
    certificate = Certificate(folder, given, list(dict.fromkeys(hosts)))
    browsers = Browsers(folder, allowed)
    return NetworkDoor(SignedInDoor(browsers, certificate, keys.public), browsers, certificate)


def _said(listener: socket.socket, robot: str, network: NetworkDoor | None) -> str:
    """Where it listens, and for a person where it is."""
    place = listening.address_of(listener)
    if network is None:
        return f"{place} http://{place}/"
    port = listener.getsockname()[1]
    hosts = listening.hosts_of(listener)
    urls = [f"https://{listening.in_url(host)}:{port}" for host in hosts]
    fingerprint = network.certificate.fingerprint
    network.browsers.set_page(PageAddress(robot, urls, fingerprint))
    return f"{place} {urls[0]}/ with a certificate of SHA-256 {fingerprint}"


if __name__ == "__main__":
    main()
