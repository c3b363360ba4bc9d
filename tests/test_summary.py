"""The keys of a run's summary: its page has those that a run prints, and no others."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console

import inphase
from inphase._core import ffi
from inphase.command.pictures import summary_table
from inphase.episodes import lockstep
from inphase.episodes.lockstep import LockStep
from inphase.frames import store
from inphase.frames.record_layout import CAUSES, SERVER_COUNTS
from inphase.runtime import summary
from inphase.runtime.motion.power import Power
from inphase.schedule.network_tables import PolicyServer
from peers import ROOT
from robots import demo_schedule
from test_run import summary_of

PAGE = (ROOT / "docs" / "how-to" / "read-a-summary.md").read_text()
DISTRIBUTION = {"count", "min", "p50", "p90", "p99", "p999", "max"}
NAMES = {
    "status": "STATUS",
    "reasons": "REASON",
    "causes": "CAUSE",
    "thread": "CAUSE",
    "refused": "WHAT",
    "machine": "WHAT",
    "versions": "PACKAGE",
    "draws": "PATH",
}
"""tables whose keys are names: the word that the page has for them"""


def keys_of_the_page() -> list[str]:
    """In its order."""
    table = PAGE.split("\n## All keys\n", 1)[1]
    return re.findall(r"^\| `(\S+)` \| ", table, re.MULTILINE)


def keys_of(value: Any, path: str = "") -> Iterator[str]:
    """The keys of a summary, dotted, as the page writes them."""
    name = path.rpartition(".")[2]
    if name in NAMES:
        yield f"{path}.{NAMES[name]}"
    elif path in ("sensors", "actuators"):
        for part in value.values():
            yield from keys_of(part, f"{path}.NAME")
    elif isinstance(value, dict) and set(value) != DISTRIBUTION:
        for key, item in value.items():
            yield from keys_of(item, f"{path}.{key}".lstrip("."))
    elif path == "worst":
        for item in value:
            yield from keys_of(item, path)
    else:
        yield path


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[LockStep]:
    """The demo robot, after some cycles."""
    with LockStep(inphase.load(demo_schedule(tmp_path))) as robot:
        robot.run(10)
        yield robot


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a summary says of a run's recording."""
    folder = tmp_path_factory.mktemp("recorded")
    described = inphase.load(demo_schedule(folder))
    return dict(lockstep.run(described, 10, record=folder / "run.mcap")["recording"])


@pytest.fixture
def whole(
    recording: dict[str, Any], robot: LockStep, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A summary that has all that one can have: a worker, a clock, a sandbox and a server, on a
    machine without the core that is wanted."""

    def zero(kind: str, **fields: int) -> dict[str, int]:
        return store.as_dict(ffi.new(f"struct {kind} *", fields))

    monkeypatch.setattr(store.Reader, "worker", lambda *_: zero("inphase_worker_facts"))
    monkeypatch.setattr(store.Reader, "clock", lambda *_: zero("inphase_clock_facts"))
    monkeypatch.setattr(store.Reader, "worst", lambda *_: [zero("inphase_worst")])
    monkeypatch.setattr(store, "sandbox", lambda _: zero("inphase_sandbox", entered=1))
    monkeypatch.setattr(store, "inference", lambda _: zero("inphase_quantiles"))
    monkeypatch.setattr(store, "server_counts", lambda _: dict.fromkeys(SERVER_COUNTS, 0))
    mailbox: Any = object()
    described = robot.schedule
    server = PolicyServer(url="ws://127.0.0.1:8000", observation={})
    policy = structs.replace(described.policy, server=server)
    cycle = structs.replace(described.cycle, cpu=4095, clock="arm")
    plan = replace(robot.plan, schedule=structs.replace(described, policy=policy, cycle=cycle))
    made = summary.make(plan, robot.follower.reader, [], mailbox=mailbox)
    Power(plan, robot.core, [], print).tell_rests(made["actuators"])
    none = dict.fromkeys(CAUSES, 0)
    late = {"causes": none, "thread": none, "said": [], "sentinel_share": 0.0}
    return lockstep.sum_up(robot) | made | {"recording": recording, "late": late}


def test_the_page_has_every_key_that_a_run_prints(whole: dict[str, Any]) -> None:
    assert sorted(set(keys_of(whole)) - set(keys_of_the_page())) == []


def test_a_run_prints_every_key_that_the_page_has(whole: dict[str, Any]) -> None:
    assert sorted(set(keys_of_the_page()) - set(keys_of(whole))) == []


def test_the_page_has_a_key_once_and_says_what_a_distribution_is() -> None:
    keys = keys_of_the_page()
    assert len(keys) == len(set(keys))
    (said,) = re.findall(r"^A \*distribution\* is .*$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", said)) == DISTRIBUTION


def test_nothing_of_a_summary_is_cut_at_80_columns(whole: dict[str, Any]) -> None:
    names = ["second_overview_camera_in_front", "wrist_camera"]
    quantiles = {key: 30_000_000 + number for number, key in enumerate(sorted(DISTRIBUTION))}
    for name in names:
        status = dict.fromkeys(store.STATUSES, 12_345)
        whole["sensors"][name] = {"status": status, "trigger_to_sample_ns": quantiles}
    console = Console(width=80, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(summary_table.render(whole))
    text = captured.get()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    cells = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert all("".join(cells).count(name) == 2 for name in names)  # times, statuses
    assert text.count("12345") == 2 * len(store.STATUSES)
    assert all(status in text for status in store.STATUSES)
    assert text.count("30000.0") == 2 * 6


def test_a_summary_is_plain_json(whole: dict[str, Any]) -> None:
    assert json.loads(json.dumps(whole)) == whole


@pytest.mark.real
def test_the_page_has_every_key_of_a_run_on_the_wall_clock_with_a_worker(tmp_path: Path) -> None:
    path = demo_schedule(tmp_path, emulator=True)
    path.write_text(path.read_text().replace("[device.wrist]", '[device.wrist]\nhome = "process"'))
    result = summary_of(str(path), "--cycles", "50")
    assert "worker" in result["sensors"]["wrench"] and result["policy"]["sandbox"] is not None
    assert set(keys_of(result)) <= set(keys_of_the_page())
