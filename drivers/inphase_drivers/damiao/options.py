"""A schedule's options of Damiao motors on one CAN bus."""

from typing import Annotated

import msgspec
from msgspec import Meta

from .models import KD_MAX, KP_MAX, MODELS, Ranges

Gain = float | list[float]


class DamiaoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keys of a `[device.NAME]` table with this driver."""

    channel: str
    """the CAN interface, such as can0; or the path of a socket that carries a bus's frames"""
    ids: Annotated[list[Annotated[int, Meta(ge=1, le=0x7F)]], Meta(min_length=1, max_length=16)]
    """under which the motors take commands (register 8), in the order of the channels"""
    models: str | list[str]
    """of all motors, or of each: they say the ranges of the frame's fields"""
    feedback_ids: list[Annotated[int, Meta(ge=0, le=0x7FF)]] | None = None
    """under which each answers (register 7). Left out: its id and 16"""
    ranges: list[tuple[float, float, float]] | None = None
    """of each motor, in place of its model's: registers 21 to 23 in rad, rad/s, N m"""
    kp: Gain | None = None
    """stiffness of all joints, or of each, N m/rad: of position mode, which needs it"""
    kd: Gain | None = None
    """damping likewise, N m s/rad: of position and velocity mode, which need it"""
    watchdog_ms: Annotated[int, Meta(ge=0, le=60_000)] = 200
    """without a command for so long a motor lets go (register 9); 0: it holds for ever"""
    bitrate: Annotated[int, Meta(ge=125_000, le=1_000_000)] = 1_000_000
    """bits per second of the bus: for the time of frames, `ip link` sets it"""
    reply_max_us: Annotated[int, Meta(ge=100, le=1_000_000)] = 5_000
    """how long after a trigger the last motor's reply may come, adapter included"""
    start_position: float | list[float] = 0.0
    """where the simulated twin starts, rad"""

    def __post_init__(self) -> None:
        """Check what one key alone does not say. Raises ValueError, as msgspec wants it."""
        self._check_ids()
        if unknown := set(self.names) - set(MODELS):
            raise ValueError(
                f"models: {', '.join(sorted(unknown))} is none of {', '.join(MODELS)}; give the "
                f"nearest of these, and its registers 21 to 23 as ranges"
            )
        counts = {
            "models": self.models,
            "feedback_ids": self.feedback_ids,
            "ranges": self.ranges,
            "kp": self.kp,
            "kd": self.kd,
            "start_position": self.start_position,
        }
        for key, value in counts.items():
            if isinstance(value, list) and len(value) != len(self.ids):
                raise ValueError(
                    f"{key}: one for each of the {len(self.ids)} motors, got {len(value)}"
                )
        for key, most in (("kp", KP_MAX), ("kd", KD_MAX)):
            for one in self.gains(key):
                if not 0 <= one <= most:
                    raise ValueError(f"{key} is 0 to {most:g} in an MIT frame, got {one:g}")
        if any(not one > 0 for span in self.ranges or [] for one in span):
            raise ValueError(f"ranges are above 0, got {self.ranges}")

    def _check_ids(self) -> None:
        for key, given in (("ids", self.ids), ("feedback_ids", self.feedbacks)):
            if len(set(given)) != len(given):
                raise ValueError(
                    f"{key} must be different from each other, got {given}; set them apart in the "
                    f"motors' registers 7 and 8"
                )
        if both := set(self.ids) & set(self.feedbacks):
            raise ValueError(
                f"feedback_ids: {sorted(both)} are ids of motors, which would take the others' "
                f"replies for commands; set register 7 to the id and 16"
            )

    def _per_motor(self, value: str | float | list[str] | list[float]) -> list[str | float]:
        return list(value) if isinstance(value, list) else [value] * len(self.ids)

    def gains(self, key: str) -> list[float]:
        """`kp` or `kd` of each motor; none where it is left out."""
        value = getattr(self, key)
        return [] if value is None else [float(one) for one in self._per_motor(value)]

    def mode_gains(self, mode: str) -> list[dict[str, float]]:
        """The gains that a frame of that mode has, of each motor: in effort mode none."""
        keys = {"position": ("kp", "kd"), "velocity": ("kd",)}.get(mode, ())
        given = {key: gains for key in keys if (gains := self.gains(key))}
        return [{key: one[m] for key, one in given.items()} for m in range(len(self.ids))]

    @property
    def feedbacks(self) -> list[int]:
        """`feedback_ids`, or what they are when left out."""
        return [i + 16 for i in self.ids] if self.feedback_ids is None else self.feedback_ids

    @property
    def names(self) -> list[str]:
        """`models` of each motor."""
        return [str(model) for model in self._per_motor(self.models)]

    @property
    def spans(self) -> list[Ranges]:
        """The ranges of each motor."""
        if self.ranges is not None:
            return [Ranges(*one) for one in self.ranges]
        return [MODELS[model] for model in self.names]

    @property
    def starts(self) -> list[float]:
        """`start_position` of each motor."""
        return [float(one) for one in self._per_motor(self.start_position)]

    @property
    def frame_ns(self) -> int:
        """The longest time of a frame of 8 bytes on the wire: 111 bits, and 24 stuffed ones."""
        return 135 * 1_000_000_000 // self.bitrate
