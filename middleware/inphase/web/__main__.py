"""Entry of the page's process.

    python -m inphase.web SCHEDULE STORE PAGE_FD ADDRESS

PAGE_FD: the page of clients' wishes, for the emergency stop. ADDRESS: host and port to listen at.
INPHASE_SERVICE in the environment: the service that keeps the robot up. The process ends with the
runtime that starts it.
"""

import os
import signal
import sys
from pathlib import Path

import uvloop

from inphase.client.place import SERVICE
from inphase.errors import InphaseError
from inphase.frames import store
from inphase.host import process
from inphase.web import listening
from inphase.web.page_server import PageServer


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    schedule, store_path, page_fd, address = sys.argv[1:5]
    try:
        wishes = store.ClientPage(int(page_fd))
        listener = listening.listen(address)
        service = os.environ.get(SERVICE, "")
        server = PageServer(store_path, Path(schedule).parent, wishes, service)
        process.say_ready(listening.address_of(listener))
        uvloop.run(server.serve(listener))
    except InphaseError as error:
        print(f"page: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
