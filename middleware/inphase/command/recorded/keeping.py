"""`inphase check` of a recording: does it keep what its schedule promises?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inphase.timing.promises import Judged

BROKEN = 13
_NO_PROMISE = ("policy", "emulator", "world", "timing", "randomise", "task", "gateway")
"""tables of which no promise is made; they may name files that lie beside the schedule"""
_MAGIC = b"\x89MCAP0\r\n"


def is_recording(path: Path) -> bool:
    """True for what has the ending of a recording, or begins as one."""
    if path.suffix == ".mcap":
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def check(
    path: Path, schedule: Path | None, *, percent: float, slack_us: float | None, as_json: bool
) -> int:
    """Judge a recording, show the outcome; the exit code.

    schedule: the one that it was recorded with; None: the text of it in the recording. Raises
    RecordingError, ScheduleError.
    """
    import tempfile

    from inphase.command.recorded.reporting import FrameProgress
    from inphase.errors import ScheduleError
    from inphase.plan import plan as planning
    from inphase.plan.validation import load
    from inphase.recording.recording import Recording
    from inphase.timing.promises import judge
    from inphase.timing.recorded_schedule import schedule_of

    with (
        Recording(path) as recording,
        tempfile.TemporaryDirectory(prefix="inphase-") as folder,
        FrameProgress() as progress,
    ):
        if schedule is not None:
            plan = planning.make(load(schedule))
        else:
            try:
                plan = planning.make(schedule_of(recording, Path(folder), _NO_PROMISE))
            except ScheduleError as error:
                raise ScheduleError(
                    f"the schedule in {path} wants files that lay beside it ({error}); give the "
                    f"schedule too: inphase check {path} SCHEDULE"
                ) from error
        slack_ns = plan.schedule.cycle.period_ns // 20
        if slack_us is not None:
            slack_ns = round(slack_us * 1000)
        found = judge(
            recording, plan, allowed=percent / 100, slack_ns=slack_ns, watch=progress.show
        )
        troubles = recording.troubles
    if as_json:
        print(json.dumps(_facts(found, troubles)))
    else:
        _show(found, troubles)
    return 0 if found.is_kept else BROKEN


def _facts(found: "Judged", troubles: list[str]) -> dict[str, Any]:
    return {
        "kept": found.is_kept,
        "recording": found.path,
        "robot": found.robot,
        "schedule_hash": found.schedule_hash,
        "frames": found.frames,
        "state": found.state,
        "troubles": troubles,
        "promises": [one.facts() for one in found.promises],
    }


def _show(found: "Judged", troubles: list[str]) -> None:
    from rich.text import Text

    from inphase.command.screen import screen, table

    columns = ("", "promise", "limit [us]", "worst [us]", "broken", "in a row", "first cycle")
    made = table(
        f"{found.path}: {found.robot}, {found.frames} frames, {found.state}",
        columns,
        left=("", "promise"),
        is_tight=True,
    )
    for one in found.promises:
        mark = Text("kept", "green") if one.kept else Text("broken", "red")
        first = "" if one.first_broken is None else str(one.first_broken)
        row = "" if not one.in_a_row else str(one.in_a_row)
        made.add_row(
            mark,
            f"{one.what} {one.of}".strip(),
            _number(one.limit_us),
            _number(one.worst_us),
            f"{one.broken} of {one.count}",
            row,
            first,
        )
    console = screen()
    console.print(made)
    for text in troubles:
        console.print(Text(f"the file: {text}", "yellow"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
