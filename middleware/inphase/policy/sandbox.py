"""The rights that a policy's process gives up before it runs the schedule's code: see [policy]
allow.

The kernel enforces it (`native/src/sandbox.c`): Landlock for files and devices, seccomp for system
calls, no capabilities except those of opening files. A protection that it does not grant is
reported.
"""

import os
import sys
import tempfile
from typing import Any

from inphase._core import ffi, lib
from inphase.frames import store
from inphase.host import process
from inphase.schedule import Schedule

_ALLOW = ("network", "gpu", "devices", "files", "processes")
_CPU_PROVIDER = "CPUExecutionProvider"


def allowed(described: Schedule) -> list[str]:
    """The rights of the schedule's policy; a policy that computes on an accelerator needs that
    right."""
    policy = described.policy
    assert policy is not None
    wanted = set(policy.allow)
    if set(policy.providers) - {_CPU_PROVIDER}:
        wanted.add("gpu")
    return [name for name in _ALLOW if name in wanted]


def enter(described: Schedule, mailbox: store.Mailbox | None = None) -> None:
    """Give up for this process, for good, every right that is not allowed.

    The result is left in the mailbox, and printed if something is lacking. Before any thread is
    started.
    """
    assert described.policy is not None
    names = allowed(described)
    sandbox = ffi.new("struct inphase_sandbox *")
    sandbox.allow = sum(getattr(lib, f"INPHASE_ALLOW_{name.upper()}") for name in names)
    sandbox.priority = described.policy.priority
    scratch = os.environ.get(process.SCRATCH)
    if scratch:
        tempfile.tempdir = scratch
    lib.inphase_sandbox_enter(sandbox, scratch.encode() if scratch else ffi.NULL)
    if mailbox is not None:
        mailbox.say(sandbox)
    facts = store.as_dict(sandbox)
    if lacking := _lacking(facts):
        print(f"policy: sandbox: not available: {lacking}; it runs without", file=sys.stderr)


def narrow() -> None:
    """Give up all system calls but those of a model's loop in C."""
    rc = lib.inphase_sandbox_narrow()
    if rc < 0:
        print(
            f"policy: sandbox: its tighter part is refused: {os.strerror(-rc)}; it runs on",
            file=sys.stderr,
        )


def summed_up(facts: dict[str, int] | None) -> dict[str, Any] | None:
    """A mailbox's facts of it, for a summary; None: the policy has no process of its own."""
    if facts is None or not facts["entered"]:
        return None
    return {
        "seccomp": not facts["seccomp_errno"],
        "landlock": facts["landlock_abi"] or None,
        "lacking": _lacking(facts) or None,
        "allow": [n for n in _ALLOW if facts["allow"] & getattr(lib, f"INPHASE_ALLOW_{n.upper()}")],
    }


def _lacking(facts: dict[str, int]) -> str:
    """The protections that the kernel did not grant, and why."""
    parts = []
    if facts["seccomp_errno"]:
        parts.append(f"seccomp ({os.strerror(facts['seccomp_errno'])})")
    if not facts["landlock_abi"]:
        parts.append(f"Landlock ({os.strerror(facts['landlock_errno'])})")
    if facts["users_errno"]:
        parts.append(
            f"a user namespace ({os.strerror(facts['users_errno'])}), so it can read the memory of "
            f"this user's other processes"
        )
    if facts["capabilities_errno"]:
        parts.append(f"giving up capabilities ({os.strerror(facts['capabilities_errno'])})")
    if facts["others"] > 0:
        parts.append(f"for {facts['others']} threads that were there before")
    return ", ".join(parts)
