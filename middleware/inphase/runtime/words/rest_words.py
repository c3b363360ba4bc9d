"""The rest of each actuator at the end of a run, in words."""

from typing import Any

_PARK = {
    "hurried": "a second signal shortened its park",
    "latched": "motion was latched",
    "feedback": "its feedback was not good",
    "limits": "its limits changed a command on the way",
    "time": "it did not get there in time",
}
_REST = {"hold": "held", "brake": "in its brakes", "limp": "limp", "unknown": "rest unknown"}
_TORQUE = {
    "on": "torque on",
    "off": "torque off",
    "part": "torque on in some joints only",
    "unknown": "torque not read back",
    "refused": "torque not switched off by its driver",
}


def line(result: dict[str, Any]) -> str:
    """The last line of a run: rest and torque per actuator; empty: nothing was known of any."""
    parts = [f"{name} {_words(rest)}" for name, rest in _rests(result).items()]
    return f"rest: {'; '.join(parts)}" if parts else ""


def _words(rest: dict[str, str]) -> str:
    park = {None: "", "done": "parked, "}.get(rest["park"], "not parked, ")
    return f"{park}{_REST[rest['reached']]}, {_TORQUE[rest['torque']]}"


def shortfalls(result: dict[str, Any]) -> list[str]:
    """A sentence per actuator that is not in its declared rest, with a remedy."""
    return [
        f"{name} did not reach its declared rest ({rest['declared']}"
        f"{' after park' if rest['park'] is not None else ''}): {_why(rest)}; support it before "
        f"its power is taken away, and look at its device before the next run"
        for name, rest in _rests(result).items()
        if is_missed(rest)
    ]


def _why(rest: dict[str, str]) -> str:
    if rest["park"] not in (None, "done"):
        why = _PARK.get(rest["park"], "it was not commanded when the run ended")
        return f"{why}. It is {_words(rest)}"
    return f"it is {_words(rest)}"


def is_missed(rest: dict[str, str]) -> bool:
    """True if an actuator is known not to be in its declared rest."""
    is_other = rest["reached"] not in ("unknown", rest["declared"])
    return rest["park"] not in (None, "done") or is_other or rest["torque"] in ("part", "refused")


def missed(result: dict[str, Any]) -> bool:
    """True for a run with such an actuator."""
    return any(map(is_missed, _rests(result).values()))


def _rests(result: dict[str, Any]) -> dict[str, dict[str, str]]:
    """By actuator; none of a run on virtual time, or one that only observed."""
    actuators = result["actuators"]
    return {name: one["rest"] for name, one in actuators.items() if "rest" in one}
