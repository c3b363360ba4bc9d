"""A schedule's policy in its process, as the runtime starts it."""

from collections.abc import Sequence
from pathlib import Path

from inphase.host.process import Process
from inphase.policy.words_line import WordsLine


def start(
    schedule: Path,
    store_path: str,
    fds: Sequence[int],
    environment: dict[str, str] | None = None,
) -> Process:
    """Wait until it has warmed up. fds: its mailbox and its bell. Raises RuntimeFault."""
    words = WordsLine()
    try:
        passed = [*fds, words.theirs]
        arguments = [str(schedule), store_path, *map(str, passed)]
        made = Process(
            "policy", "inphase.policy", arguments, pass_fds=passed, environment=environment
        )
        made.wait_ready()
        return made
    finally:
        for text in words.read():
            print(text)
        words.close()
