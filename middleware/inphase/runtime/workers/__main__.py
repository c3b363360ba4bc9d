"""The process of a driver's worker, started by the runtime.

python -m inphase.runtime.workers SCHEDULE DEVICE
    RING_FD CORE_FD WAKE_FD BELL_FD CONTROL_FD
    [--hand FD] [--stand-ins NAMES] [--world FD]
"""

import gc
import os
import signal
import socket
import sys
from pathlib import Path

from inphase import schedule
from inphase.errors import InphaseError
from inphase.host import process
from inphase.plan import plan as planning
from inphase.plan.plan import Plan
from inphase.runtime.workers.worker import Worker, WorkerFds
from inphase.runtime.workers.worker_control import WorkerControl
from inphase.world import stand_in


def _plan(path: Path, device: str, options: list[str]) -> Plan:
    """The schedule's plan, or that of a simulated run."""
    described = schedule.load(path)
    if "--stand-ins" not in options:
        return planning.make(described)
    names = options[options.index("--stand-ins") + 1].split(",")
    plan = stand_in.make_plan(described, names)
    driver = plan.drivers[device]
    if isinstance(driver, stand_in.StandIn):
        driver.join(plan, int(options[options.index("--world") + 1]))
    return plan


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C is the supervisor's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path, device, ring, core, wake, bell, control, *options = sys.argv[1:]
    fds = WorkerFds(int(ring), int(core), int(wake), int(bell))
    try:
        plan = _plan(Path(path), device, options)
        worker = Worker(plan, device, fds)
        for fd in (fds.ring, fds.core, fds.bell):  # mapped: what the driver does cannot find them
            os.close(fd)
        if "--hand" in options:
            worker.hand = socket.socket(fileno=int(options[options.index("--hand") + 1]))
        try:
            worker.open()
            table = plan.schedule.device[device]
            process.set_rights(f"worker of {device}", table.priority, table.cpu)
            process.say_ready()

            # what exists now stays: no collection in the loop
            gc.collect()
            gc.freeze()
            gc.disable()
            line = WorkerControl(int(control))
            worker.run(line)
            line.obey_to_the_end(worker)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already
            worker.close()
    except InphaseError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
