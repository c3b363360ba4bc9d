"""The options that say into which files a recorder writes, of `run` and of `record` alike."""

import functools
from collections.abc import Callable
from typing import Any

import click

_SECONDS = click.FloatRange(min=0, min_open=True)
_OPTIONS = (
    click.option(
        "--split-mb", type=click.IntRange(min=1), help="go on in another file from this size"
    ),
    click.option("--split-seconds", type=_SECONDS, help="go on in another file after so long"),
    click.option(
        "--around",
        type=_SECONDS,
        help="record only so many seconds before and after a fault or a mark",
    ),
    click.option("--by-episode", is_flag=True, help="record only episodes, each into its own file"),
)


def file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it is called with them as `recorder`, RecorderOptions. Raises
    UsageError for those that do not go together."""

    @functools.wraps(command)
    def called(
        *,
        split_mb: int | None,
        split_seconds: float | None,
        around: float | None,
        by_episode: bool,
        **others: Any,
    ) -> None:
        from inphase.recording.recorder_process import RecorderOptions

        if by_episode and around is not None:
            raise click.UsageError("give --by-episode or --around, not both")
        recorder = RecorderOptions(
            split_bytes=None if split_mb is None else split_mb * 1_000_000,
            split_ns=None if split_seconds is None else round(split_seconds * 1e9),
            around_ns=None if around is None else round(around * 1e9),
            by_episode=by_episode,
        )
        command(recorder=recorder, **others)

    for option in reversed(_OPTIONS):
        called = option(called)
    return called
