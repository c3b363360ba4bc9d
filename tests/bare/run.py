"""Runs the README's two commands on bare Debian systems, as an ordinary user and as root.

`python3 tests/bare/run.py`, or `make bare-test`. debootstrap makes each system once, under
build/bare. A run has a process table, pseudo-terminals, /dev/shm and /tmp of its own. See README.md
beside this file.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "build" / "bare"
SYSTEMS = ("trixie", "bookworm")
PACKAGES = "python3,python3-venv,python3-dev,gcc,make,git,ca-certificates"
"""What the README names, and the certificates that pip checks a server with."""

COMMANDS = ("make demo", "make test")

ENTER = """
set -e
mount --make-rprivate /
mount --bind "$system" "$system"
mount -t proc proc "$system/proc"
mount --rbind -o ro /sys "$system/sys"
mount -t tmpfs -o mode=755 dev "$system/dev"
mkdir "$system/dev/pts" "$system/dev/shm"
for name in null zero full random urandom tty; do
    touch "$system/dev/$name"
    mount --bind "/dev/$name" "$system/dev/$name"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 pts "$system/dev/pts"
ln -s pts/ptmx "$system/dev/ptmx"
ln -s /proc/self/fd "$system/dev/fd"
mount -t tmpfs -o mode=1777 shm "$system/dev/shm"
mount -t tmpfs -o mode=1777 tmp "$system/tmp"
mount --bind "$cache" "$system$home/.cache"
mount --bind /etc/ssl/certs "$system/etc/ssl/certs"
cd "$system"
pivot_root . mnt
cd /
umount -l /mnt
exec "$@"
"""
"""Run by a shell in a mount and process namespace of its own; its arguments are the command. No
chroot, in which the kernel refuses user namespaces to everybody."""

NO_RIGHTS = shlex.split("""
    setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=-all --bounding-set=-all
    prlimit --rtprio=0 --memlock=8388608
""")


class Person(NamedTuple):
    """Who types the commands."""

    uid: int
    home: str
    rights: list[str]  # words before the command


PEOPLE = {"user": Person(1000, "/home/person", NO_RIGHTS), "root": Person(0, "/root", [])}


class Missing(Exception):  # noqa: N818 - named for what happened
    """Something that this machine lacks; the text says what to do."""


def system(name: str, packages: str = PACKAGES) -> Path:
    """The folder of a bare system with these packages, made at the first call."""
    path = CACHE / (name if packages == PACKAGES else f"{name}-without-compiler")
    if path.is_dir():
        return path
    program = shutil.which("debootstrap", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise Missing("debootstrap is missing: install debootstrap (Debian and Ubuntu)")
    print(f"bare: makes {path}, which takes a few minutes", flush=True)
    fresh = CACHE / f"{path.name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"{path.name}.log"
    words = [program, "--variant=minbase", f"--include={packages}", name, fresh]
    with log.open("wb") as out:
        if subprocess.run(words, stdout=out, stderr=out, check=False).returncode:
            raise Missing(f"debootstrap cannot make {name}: see {log}")
    # an installer writes both
    (fresh / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (fresh / "etc/hostname").write_text("bare\n")
    subprocess.run(
        ["chroot", fresh, "useradd", "--create-home", "--uid", "1000", "person"], check=True
    )
    fresh.rename(path)
    return path


def lay_checkout(where: Path, person: Person) -> None:
    """Clone what is committed into a person's home, in place of an earlier run's."""
    checkout = _checkout(where, person)
    shutil.rmtree(checkout, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    cache = checkout.with_name(".cache")
    cache.mkdir(exist_ok=True)
    owner = f"{person.uid}:{person.uid}"
    subprocess.run(["chown", "--recursive", owner, checkout, cache], check=True)


def _checkout(where: Path, person: Person) -> Path:
    return where / person.home.lstrip("/") / "inphase"


def run(where: Path, name: str, command: str, folder: str = "inphase") -> int:
    """Run a shell command as a person in a folder of their home; its exit code."""
    person = PEOPLE[name]
    cache = CACHE / f"cache-{name}"  # of pip's downloads
    cache.mkdir(exist_ok=True)
    os.chown(cache, person.uid, person.uid)
    shutil.copy("/etc/resolv.conf", where / "etc/resolv.conf")
    passed = {key: value for key, value in os.environ.items() if _is_of_network(key)}
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "LANG": "C.UTF-8",
        "HOME": person.home,
        "TERM": "dumb",
    } | passed
    words = ["sh", "-c", f"cd {person.home}/{folder} && {command}"]
    entered = [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"),
        *("env", "--unset=system", "--unset=cache", "--unset=home", *person.rights, *words),
    ]
    places = {"system": str(where), "cache": str(cache), "home": person.home}
    start = time.monotonic()
    code = subprocess.run(
        entered, env=environment | places, stdin=subprocess.DEVNULL, check=False
    ).returncode
    took_s = time.monotonic() - start
    print(f"bare: {where.name}, {name}: {command}: exit code {code} after {took_s:.0f} s")
    return code


def _is_of_network(variable: str) -> bool:
    """True for a variable with which pip reaches its index here."""
    return variable.lower().endswith("_proxy") or variable in {"PIP_INDEX_URL", "PIP_CERT"}


def main() -> int:
    """The command line; the exit code is 1 when a command failed, 77 when a system cannot be
    made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--system", action="append", choices=SYSTEMS, help="default: all")
    parser.add_argument("--person", action="append", choices=PEOPLE, help="default: both")
    parser.add_argument("--command", action="append", help="instead of the two; keeps the checkout")
    options = parser.parse_args()
    if os.geteuid():
        print("bare: run it as root: it makes systems and enters them", file=sys.stderr)
        return 77
    codes = []
    for name in options.system or SYSTEMS:
        try:
            where = system(name)
        except Missing as missing:
            print(f"bare: {missing}", file=sys.stderr)
            return 77
        for person in options.person or PEOPLE:
            if not options.command or not _checkout(where, PEOPLE[person]).is_dir():
                lay_checkout(where, PEOPLE[person])
            for command in options.command or COMMANDS:
                codes.append(run(where, person, command))
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
