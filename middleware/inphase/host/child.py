"""Entry of the processes that the runtime starts: a module that ends with the runtime.

    python -m inphase.host.child PARENT MODULE ARGUMENTS...

PARENT: the number of the process that starts it. The module may be anybody's, an emulator that a
schedule names, and the runtime may end by SIGKILL.
"""

import runpy
import sys

from inphase.host import process


def main() -> None:
    """Entry of the process."""
    parent, *arguments = sys.argv[1:]
    process.end_with_parent(int(parent))
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
