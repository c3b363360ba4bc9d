"""Recordings and live views in readers of other people: counted messages, rows and bytes.

An exit code proves nothing here: a converter may end with 0 on a file that it could not load.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import live  # noqa: E402

from inphase.recording.recording import Recording  # noqa: E402
from inphase.recording.recovery import recover  # noqa: E402
from recorded_runs import DEMO, ODD, Foreign, record  # noqa: E402

BUILD = ROOT / "build" / "readers"
BIN = BUILD / "bin"
Counts = dict[str, int]


def output(*command: str | Path, folder: Path = ROOT) -> str:
    """Of a program, with its errors."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout


def by_mcap_core(path: Path) -> Counts:
    """@mcap/core of npm, the reader of viewers in a browser. The bytes are compared too."""
    found = json.loads(output("node", "read.mjs", path, folder=BUILD))
    for topic, of_topic in found.items():
        assert of_topic["count"] == of_topic["backwards"], topic
        assert of_topic["hash"] == hashes(path)[topic], topic
    return {topic: of_topic["count"] for topic, of_topic in found.items()}


def hashes(path: Path) -> dict[str, str]:
    """SHA-256 of the data of each topic's messages, as the package `mcap` gives them."""
    from mcap.reader import make_reader

    with path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None
        found = {channel.topic: hashlib.sha256() for channel in summary.channels.values()}
        for _, channel, message in reader.iter_messages():
            found[channel.topic].update(message.data)
    return {topic: one.hexdigest() for topic, one in found.items()}


def by_rerun(path: Path) -> Counts:
    """Rows per topic, as Rerun has them after its conversion."""
    rows: Counter[str] = Counter()
    components: Counter[tuple[str, str]] = Counter()
    converted = path.with_suffix(".rrd")
    output(BIN / "rerun", "mcap", "convert", path, "-o", converted)
    printed = output(BIN / "rerun", "rrd", "print", converted)
    for line in printed.splitlines():
        found = re.match(r"Chunk.* with ([\d ]+) rows .* - (/\S+) - data columns: \[(\S+)", line)
        if found and not found[3].startswith("Mcap"):  # the channel's own facts
            components[found[2], found[3]] += int(found[1].replace(" ", ""))
    for (topic, _), count in components.items():
        rows[topic] = max(rows[topic], count)  # a message may have columns in several chunks
    return dict(rows)


def by_pymcap(path: Path) -> Counts:
    """`pymcap-cli doctor` reads the whole file against the specification; `cat` counts."""
    said = output(BIN / "pymcap-cli", "doctor", path)
    assert "passed MCAP doctor checks" in " ".join(said.split()), said
    described = json.loads(output(BIN / "pymcap-cli", "--quiet", "info-json", path))
    return {one["topic"]: one["message_count"] for one in described["channels"]}


READERS: dict[str, Callable[[Path], Counts]] = {
    "@mcap/core": by_mcap_core,
    "rerun": by_rerun,
    "pymcap-cli": by_pymcap,
}


def make_recordings(folder: Path) -> list[Path]:
    """The demo robot, one with images and a silent sensor, and one that was cut and recovered."""
    folder.joinpath("odd.toml").write_text(ODD)
    record(DEMO, 2000, folder / "demo.mcap")
    record(folder / "odd.toml", 400, folder / "odd.mcap")
    content = folder.joinpath("demo.mcap").read_bytes()
    folder.joinpath("cut.mcap").write_bytes(content[: len(content) // 2])
    recover(folder / "cut.mcap", folder / "recovered.mcap")
    return [folder / f"{name}.mcap" for name in ("demo", "odd", "recovered")]


def main() -> None:
    """Print a line for each file and reader; exit code 1 where a count differs."""
    failures = 0
    with tempfile.TemporaryDirectory(prefix="inphase-test-") as name:
        for path in make_recordings(Path(name)):
            wanted = {topic: len(messages) for topic, messages in Foreign(path).of.items()}
            with Recording(path) as recording:
                assert len(recording) == wanted["/frame"]
            for reader, read in READERS.items():
                try:
                    found = read(path)
                except (AssertionError, ValueError, OSError, KeyError) as error:
                    print(f"{path.name}: {reader}: {error!r}")
                    failures += 1
                    continue
                # a topic without a message has no row
                differs = {t: found.get(t, 0) for t in wanted if found.get(t, 0) != wanted[t]}
                print(f"{path.name}: {reader}: {f'differs: {differs}' if differs else found}")
                failures += bool(differs)
        failures += live.failures(Path(name))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
