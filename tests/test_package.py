"""The package as an index and its users see it: its page, its extras, and the remedies that name
them."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest

from inphase.errors import EXTRAS, install
from peers import BOUND_S, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
MISSING = {
    "can": "from inphase.command.cli import cli; cli(['check', 'schedules/rig.toml'])",
    "pypylon": "from inphase_drivers import pylon; pylon._pylon('camera')",
    "gpiod": "from inphase.runtime import gpio; from inphase.schedule.tables import GpioLine; "
    "gpio._ask('estop.button', GpioLine(chip='/dev/gpiochip0', line=1), 'robot', {})",
    "mujoco": "from inphase.world.mujoco.package import package; package()",
    "onnxruntime": "from inphase.command.cli import cli; cli(['check', 'schedules/press.toml'])",
    "gymnasium": "import inphase.gym",
    "av": "from inphase.command.cli import cli; "
    "cli(['export', 'x.mcap', 'y', '--format', 'lerobot'])",
    "pyarrow": "from inphase.command.cli import cli; cli(['export', 'x.mcap', 'y.parquet'])",
    "zlib_ng": "from inphase.command.cli import cli; cli(['export', 'x.mcap', 'y.npz'])",
    "foxglove": "from inphase.command.cli import cli; cli(['view', 'demo'])",
    "zeroconf": "from inphase.client import finding; finding.find_services(0)",
    "matplotlib": "import sys; sys.path.insert(0, 'schedules'); import show_press; "
    "show_press.draw(None, 1)",
}
"""module -> what wants it"""


def links(text: str) -> list[str]:
    """Where its links and pictures lead."""
    return LINK.findall(text)


def requirements(extra: str) -> set[str]:
    """The packages that an extra brings, those of extras in it, too."""
    found = set()
    for wanted in PROJECT["optional-dependencies"][extra]:
        nested = re.fullmatch(r"inphase\[(.*)\]", wanted)
        if nested:
            found |= {name for one in nested[1].split(",") for name in requirements(one)}
        else:
            found.add(re.split(r"[^\w-]", wanted)[0])
    return found


def test_every_relative_link_of_the_readme_leads_to_a_file() -> None:
    relative = [link for link in links((ROOT / "README.md").read_text()) if "//" not in link]
    assert relative
    files = {link.partition("#")[0] for link in relative} - {""}
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_the_page_on_an_index_has_the_words_and_no_link_into_the_repository() -> None:
    page = str(metadata.metadata("inphase").get_payload())
    assert page.startswith("# inphase\n") and "middleware/LIMITS.md" in page
    leads = links(page)
    assert [link for link in leads if not link.startswith(("https://", "#"))] == []
    assert f"[the list]({leads[0]})" in page


def test_the_metadata_says_whose_it_is_and_where_it_runs() -> None:
    found = metadata.metadata("inphase")
    assert found["Author"] == "inphase contributors"
    classifiers = found.get_all("Classifier") or []
    assert {"Operating System :: POSIX :: Linux", "Typing :: Typed"} <= set(classifiers)
    assert any(f":: {sys.version_info[0]}.{sys.version_info[1]}" in c for c in classifiers)


def test_every_extra_that_a_remedy_names_brings_its_package() -> None:
    have = metadata.packages_distributions()  # mujoco's parts have its name, too
    for module, extra in EXTRAS.items():
        likely = [module, f"{module}-sdk"]  # of one that is not installed
        assert set(have.get(module, likely)) & requirements(extra), module


def test_all_runs_every_schedule_that_comes_along() -> None:
    runs = set(EXTRAS.values()) - {
        "testing",
        "rerun",
        "ray",
        "rapier",
    }  # tests, large ones, no schedule's
    assert requirements("all") == {name for extra in runs for name in requirements(extra)}


@pytest.mark.parametrize("module", MISSING)
def test_a_module_that_is_missing_is_answered_with_the_extra_that_brings_it(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; {MISSING[module]}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    assert done.returncode != 0
    assert install(module) in done.stderr


def test_a_module_of_nobodys_extra_is_installed_by_its_name() -> None:
    assert install("torch.nn") == "install it: pip install torch"
    assert install("canopen.sdo") == "install it: pip install 'inphase[can]'"


def test_no_other_message_names_an_extra() -> None:
    sources = [*(ROOT / "middleware").rglob("*.py"), *(ROOT / "drivers").rglob("*.py")]
    named = [path.name for path in sources if "pip install 'inphase[" in path.read_text()]
    assert named == ["errors.py"]
