"""Does any test notice when a line of the core is wrong? `make mutants`.

universalmutator changes one line at a time of the files below. A seed draws lines, each line of
code alike, and one mistake of each. What does not compile, or compiles to the same object code at
-O2, is no mistake, and another one is drawn. Every mistake is built into the C tests and the
extension. It meets the C tests, the likely ones first, then the Python tests on virtual time; the
first failure ends it.

What was found is kept in build/mutants/results.jsonl: a run that is broken off goes on where it
was. A survivor needs its reason in tests/mutants.md. Exit 1: fewer than 90 of 100 were noticed, or
a survivor has no reason.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from universalmutator import mutator

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
TREE = WORK / "tree"  # the mistake is made in a copy
BUILD = WORK / "build"
RESULTS = WORK / "results.jsonl"
REASONS = ROOT / "tests" / "mutants.md"
RULES = ["universal.rules", "c_like.rules", "c.rules"]
WANTED = 0.9
SEED = "1"  # of the C tests and of hypothesis: a mistake is not noticed by luck
C_BOUND_S, PYTHON_BOUND_S = 60, 600
MEMORY = 16 << 30

# the files, and the C tests that are likely to notice a mistake in them
LIKELY = {
    "act.c": ("joint", "cycle", "setpoint", "estop"),
    "actuator.c": ("joint", "cycle", "estop"),
    "limiter.c": ("limiter", "modes"),
    "setpoint.c": ("setpoint", "cycle"),
    "state.c": ("estop", "cycle", "joint"),
    "rest.c": ("rest", "joint", "estop", "cycle"),
    "collect.c": ("cycle", "joint", "packet", "can"),
    "arrival.c": ("cycle", "joint", "packet", "can"),
    "packet.c": ("packet", "can"),
    "post.c": ("worker", "store"),
    "guard.c": ("guard", "write"),
    "guard_page.c": ("guard", "guard_process"),
    "guard_process.c": ("guard_process",),
    "store.c": ("store", "worker"),
}
UNRELATED = {"model", "video", "world", "gpio", "descriptor", "stamp"}  # C tests of other files
WALL_CLOCK = {"store", "guard_process"}  # real processes: a mistake fails them twice
PYTHON = [
    "tests/test_sequence_lock.py",
    "tests/test_states.py",
    "tests/test_faults_virtual.py",
    "tests/test_modes.py",
    "tests/test_chunks.py",
    "tests/test_estop.py",
    "tests/test_limits.py",
    "tests/test_native_properties.py",
    "tests/test_pairing.py",
    "tests/test_limiter_proof.py",
]
PYTEST = [
    *("-m", "pytest", "-q", "-x", "-m", "not real", "-p", "no:cacheprovider"),
    *("-k", "not test_limiter_proof or model_is_the_c_code", f"--hypothesis-seed={SEED}"),
]
COMPILED = ["-Inative", "-std=gnu11", "-fPIC", "-w", "-ffp-contract=off", "-O2", "-c"]

# the package under test is the copy, in every process that a test starts
SITE = """\
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "ScikitBuild" not in type(f).__name__]
"""


class Mutant(NamedTuple):
    """One line that became another."""

    file: str
    function: str
    line: int
    was: str
    became: str

    @property
    def key(self) -> str:
        """The same for as long as the file and the mistake are."""
        source = (ROOT / "native/src" / self.file).read_bytes()
        told = f"{self.file} {self.line} {self.became}".encode()
        return hashlib.sha256(source + told).hexdigest()[:16]

    def __str__(self) -> str:
        became = " ".join(self.became.split())
        return f"`{self.file}` `{self.function}`: `{self.was}` => `{became}`"


def run(command: list[str], bound_s: float, cwd: Path = TREE, **environment: str) -> int | None:
    """Its exit status; None: it did not end. Whatever it started ends with it."""
    with (WORK / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            return process.wait(bound_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


# ---- making them -----------------------------------------------------------------------------


def mutants_of(file: str) -> dict[int, list[Mutant]]:
    """All mistakes of a file, by line."""
    source = (ROOT / "native/src" / file).read_text().splitlines(keepends=True)
    with contextlib.redirect_stdout(io.StringIO()):
        made = mutator.mutants_regexp(source, ruleFiles=RULES, ignorePatterns=[])
    found: dict[int, list[Mutant]] = {}
    comment, function = False, ""
    commented, functions = [], []
    for line in source:
        commented.append(comment or line.lstrip().startswith("/*"))
        comment = (comment or "/*" in line) and "*/" not in line
        if begins := re.match(r"[a-z].*?(\w+)\(", line):
            function = begins[1]
        functions.append(function)
    for line, text, *_ in made:
        if commented[line - 1] or source[line - 1].startswith("#include"):
            continue
        was, became = source[line - 1].strip(), text.strip()
        mutant = Mutant(file, functions[line - 1], line, was, became)
        found.setdefault(line, []).append(mutant)
    return found


def drawn(seed: int, files: list[str]) -> Iterator[Mutant]:
    """Mistakes in the order of the seed: a line of any file, and one of its mistakes."""
    lines = [of_line for file in files for of_line in mutants_of(file).values()]
    draw = random.Random(seed)
    seen = set()
    while True:
        mutant = draw.choice(draw.choice(lines))
        if mutant not in seen:
            seen.add(mutant)
            yield mutant


def prepare() -> None:
    """The copy and its build, without a mistake."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    for name in listed:
        at, to = ROOT / name, TREE / name
        if not at.is_file() or (to.exists() and to.read_bytes() == at.read_bytes()):
            continue
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(at, to)
        to.touch()
    site = WORK / "site"
    site.mkdir(exist_ok=True)
    site.joinpath("sitecustomize.py").write_text(SITE)
    tools = Path(sys.executable).parent
    definitions = {
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_C_FLAGS": "-w",  # a warning is no test
        "CMAKE_MAKE_PROGRAM": tools / "ninja",
        "INPHASE_PYTHON": "ON",
        "INPHASE_TESTS": "ON",
        "Python_EXECUTABLE": sys.executable,
    }
    configure = [str(tools / "cmake"), "-G", "Ninja", "-S", "native", "-B", str(BUILD)]
    configure += [f"-D{key}={value}" for key, value in definitions.items()]
    if run(configure, PYTHON_BOUND_S) != 0 or not builds():
        sys.exit(f"the copy does not build: {(WORK / 'log.txt').read_text()[-2000:]}")
    for name in ("_core.abi3.so", "_guard"):
        link = TREE / "middleware/inphase" / name
        link.unlink(missing_ok=True)
        link.symlink_to(BUILD / name)


def builds() -> bool:
    """Build what the tests need."""
    return run([str(Path(sys.executable).parent / "ninja"), "-C", str(BUILD)], PYTHON_BOUND_S) == 0


def object_code(file: str) -> bytes | None:
    """Of the file in the copy, as it is released; None: it does not compile."""
    out = WORK / "object.o"
    command = [os.environ.get("CC", "cc"), *COMPILED, f"native/src/{file}", "-o", str(out)]
    return out.read_bytes() if run(command, PYTHON_BOUND_S) == 0 else None


@contextlib.contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The mistake, in the copy."""
    path = TREE / "native/src" / mutant.file
    good = path.read_text()
    lines = good.splitlines()
    indent = lines[mutant.line - 1][: -len(mutant.was)] if mutant.was else ""
    lines[mutant.line - 1] = indent + mutant.became
    try:
        path.write_text("\n".join(lines) + "\n")
        yield
    finally:
        path.write_text(good)


# ---- noticing them ---------------------------------------------------------------------------


def c_tests(file: str | None) -> list[str]:
    """The C tests, the likely ones first."""
    text = (TREE / "native/tests/CMakeLists.txt").read_text()
    found = re.search(r"foreach\(name ([^)]*)\)", text)
    assert found
    likely = LIKELY[file] if file else ()
    rest = [name for name in found[1].split() if name not in UNRELATED and name not in likely]
    return [*likely, *sorted(rest, key=lambda name: name in WALL_CLOCK)]


def noticed_by(file: str | None) -> str | None:
    """Which test fails; None: none does. `file`: where the mistake is."""
    for name in c_tests(file):
        command = [str(BUILD / "tests" / f"test_{name}")]
        for _ in range(2 if name in WALL_CLOCK else 1):
            if run(command, C_BOUND_S, INPHASE_SEED=SEED) == 0:
                break
        else:
            return f"C {name}: {last_test()}"
    path = ":".join(str(at) for at in (WORK / "site", TREE / "middleware", TREE / "drivers"))
    status = run([sys.executable, *PYTEST, *PYTHON], PYTHON_BOUND_S, PYTHONPATH=path)
    if status == 0:
        return None
    text = (WORK / "log.txt").read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", text, re.MULTILINE)
    return failed[1] if failed else f"pytest ended with {status}"


def last_test() -> str:
    """The function of a C test that ran last."""
    lines = (WORK / "log.txt").read_text(errors="replace").splitlines()
    names = [line for line in lines if re.fullmatch(r"[a-z_0-9]+", line)]
    return names[-1] if names else ""


def examine(mutant: Mutant, codes: dict[str, bytes | None]) -> str:
    """What became of it: `invalid`, `same`, `survived`, or the test that noticed it."""
    with planted(mutant):
        code = object_code(mutant.file)
        if code is None:
            return "invalid"
        if code == codes[mutant.file]:
            return "same"
        if not builds():
            return "invalid"
        return noticed_by(mutant.file) or "survived"


# ---- telling ---------------------------------------------------------------------------------


def known() -> dict[str, str]:
    """What earlier runs found."""
    if not RESULTS.exists():
        return {}
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {row["key"]: row["result"] for row in rows}


def keep(mutant: Mutant, result: str, seconds: float) -> None:
    """For later runs."""
    row = mutant._asdict() | {"key": mutant.key, "result": result, "s": round(seconds, 1)}
    with RESULTS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def tell(found: dict[Mutant, str], seed: int) -> int:
    """The table, in build/mutants/table.md and on the terminal; the exit status."""
    survivors = [mutant for mutant, result in found.items() if result == "survived"]
    explained = REASONS.read_text() if REASONS.exists() else ""
    total = Counter(mutant.file for mutant in found)
    left = Counter(mutant.file for mutant in survivors)
    noticed = len(found) - len(survivors)
    text = f"seed {seed}: {noticed} of {len(found)} mistakes were noticed\n\n"
    text += "| file | mistakes | noticed |\n| --- | --- | --- |\n"
    text += "".join(f"| {file} | {n} | {n - left[file]} |\n" for file, n in sorted(total.items()))
    unexplained = [mutant for mutant in survivors if str(mutant) not in explained]
    text += "\nSurvivors" + ("" if survivors else ": none") + "\n\n"
    for mutant in survivors:
        mark = "no reason yet" if mutant in unexplained else "see tests/mutants.md"
        text += f"- {mutant} (line {mutant.line}; {mark})\n"
    (WORK / "table.md").write_text(text)
    print(text)
    return int(noticed < WANTED * len(found) or bool(unexplained))


def main() -> int:
    """See the top."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="mistakes that are no others")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", action="append", choices=LIKELY, help="of these alone")
    parser.add_argument("--again", action="store_true", help="look at survivors again")
    wished = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    prepare()
    files = wished.file or list(LIKELY)
    codes = {file: object_code(file) for file in files}
    if wrong := noticed_by(None):
        sys.exit(f"without a mistake a test fails: {wrong}; see {WORK / 'log.txt'}")
    earlier = known()
    found: dict[Mutant, str] = {}
    with contextlib.suppress(KeyboardInterrupt):
        for mutant in drawn(wished.seed, files):
            if len(found) == wished.count:
                break
            result = earlier.get(mutant.key)
            if result is None or (wished.again and result == "survived"):
                start = time.monotonic()
                result = examine(mutant, codes)
                keep(mutant, result, time.monotonic() - start)
            if result in ("invalid", "same"):
                continue
            found[mutant] = result
            noticed = sum(result != "survived" for result in found.values())
            print(f"{len(found)}/{wished.count} {mutant.file}:{mutant.line} {result}", end="; ")
            print(f"{noticed} of {len(found)} noticed", flush=True)
    return tell(found, wished.seed)


if __name__ == "__main__":
    sys.exit(main())
