"""The rules of names to import: drivers, an emulator, a policy, a task."""

import re
from collections.abc import Iterator

from inphase.errors import ScheduleFault
from inphase.schedule.expected import MEANING
from inphase.schedule.inspection import Inspection
from inphase.schedule.tables import Schedule

_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_CALL = re.compile(rf"(?:[^:]+\.py|{_MODULE}):{_MODULE}", re.ASCII)
_DRIVER = re.compile(rf"{_CALL.pattern}|[A-Za-z0-9][\w.-]*", re.ASCII)


def check(inspection: Inspection) -> None:
    """Apply them to a schedule."""
    inspection.each("device", _check_driver)
    inspection.apply(_check_emulator)
    inspection.apply(_check_policy)
    for key in ("reward", "terminated", "success"):
        inspection.apply(_check_task, key)


def _check_driver(schedule: Schedule, name: str) -> Iterator[ScheduleFault]:
    driver = schedule.device[name].driver
    if not _DRIVER.fullmatch(driver):
        yield schedule.fault(
            f"device.{name}.driver", f"not a driver, got {driver!r}; give {MEANING['driver']}"
        )


def _check_emulator(schedule: Schedule) -> Iterator[ScheduleFault]:
    emulator = schedule.emulator
    if emulator is not None and not re.fullmatch(_MODULE, emulator.module, re.ASCII):
        yield schedule.fault(
            "emulator.module", f"not a module, got {emulator.module!r}; give {MEANING['module']}"
        )


def _check_policy(schedule: Schedule) -> Iterator[ScheduleFault]:
    policy = schedule.policy
    if policy is not None and policy.call is not None and not _CALL.fullmatch(policy.call):
        yield schedule.fault(
            "policy.call", f"not a callable, got {policy.call!r}; give {MEANING['call']}"
        )


def _check_task(schedule: Schedule, key: str) -> Iterator[ScheduleFault]:
    call = getattr(schedule.task, key)
    if call is not None and not _CALL.fullmatch(call):
        yield schedule.fault(f"task.{key}", f"not a callable, got {call!r}; give {MEANING['call']}")
