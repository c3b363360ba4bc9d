"""Boots a Debian kernel under emulation and runs the guest tests of this folder in it.

`python tests/vm/run.py [PYTEST ARGUMENTS]`, or `make vm-test`. The guest sees this machine's `/`
read-only, so it runs the same Python, the same environment and the same checkout; what it writes
goes to its memory. Nothing is loaded into this machine's kernel. See README.md beside this file.
"""

import argparse
import gzip
import lzma
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "build" / "vm"
KERNEL = "linux-image-amd64"
"""The package that names the distribution's present kernel."""

MOUNTS = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
"""Modules without which the guest sees nothing of this machine."""

DEVICES = (
    ("vcan", ""),
    ("can-raw", ""),
    ("can-bcm", ""),
    ("kvaser_pci", ""),
    ("vivid", "n_devs=2 node_types=0x1,0x1"),
    ("dummy_hcd", ""),
    ("usb_f_acm", ""),
    ("g_serial", ""),
    ("cdc-acm", ""),
    ("ftdi_sio", ""),
    ("xhci-pci", ""),
    ("gpio-pci-idio-16", ""),
)
"""Modules of the devices under test, with their parameters; what a kernel lacks is said."""

QEMU = shlex.split("""
    -machine q35 -cpu max -smp 2 -m 1536 -nodefaults -display none -no-reboot
    -object can-bus,id=bus -device kvaser_pci,canbus=bus -device kvaser_pci,canbus=bus
    -device nvme,serial=registers,cmb_size_mb=1
    -device qemu-xhci -chardev null,id=nothing -device usb-serial,chardev=nothing,always-plugged=on
""")
"""Two CAN controllers on one wire, 1 MB of memory behind a PCI bar (the registers of the GPIO card
that the guest takes it for), and a USB serial adapter."""

TIMEOUT_S = 600.0


class Missing(Exception):  # noqa: N818 - named for what happened
    """Something that this machine lacks; the text says what to install."""


def tool(name: str, package: str) -> str:
    """The path of a program, or what to install to have it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        raise Missing(f"{name} is missing: install {package} (Debian and Ubuntu)")
    return found


# ---- the kernel ---------------------------------------------------------------------------


def kernel(package: str) -> Path:
    """The unpacked kernel package, downloaded at the first call; nothing is installed."""
    apt_cache, apt_get = tool("apt-cache", "apt"), tool("apt-get", "apt")
    dpkg_deb = tool("dpkg-deb", "dpkg")
    ready = sorted(CACHE.glob("linux-image-*/boot/vmlinuz-*"))
    if ready and package == KERNEL:
        return ready[-1].parent.parent
    said = subprocess.run(
        [apt_cache, "depends", package], capture_output=True, text=True, check=False
    )
    named = re.search(r"Depends: (linux-image-\S*amd64)", said.stdout)
    exact = named.group(1) if named else package
    unpacked = CACHE / exact
    if unpacked.is_dir():
        return unpacked
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        got = subprocess.run([apt_get, "download", exact], cwd=folder, stdout=2, check=False)
        archive = next(Path(folder).glob("*.deb"), None)
        if got.returncode or archive is None:
            raise Missing(f"no package {exact}: run `apt-get update`, or name one with --kernel")
        subprocess.run([dpkg_deb, "-x", archive, f"{folder}/unpacked"], check=True)
        Path(folder, "unpacked").rename(unpacked)
    return unpacked


class Modules:
    """The modules of one kernel, each with those that it needs before it."""

    def __init__(self, unpacked: Path) -> None:
        self.files = {
            path.name.split(".")[0].replace("-", "_"): path for path in unpacked.rglob("*.ko*")
        }

    def image(self, name: str) -> bytes:
        """A module as the kernel takes it."""
        path = self.files[name.replace("-", "_")]
        data = path.read_bytes()
        return lzma.decompress(data) if path.suffix == ".xz" else data

    def ordered(self, name: str, done: dict[str, bytes]) -> list[str]:
        """Names to be loaded, in order, for this one; what is in `done` is loaded already."""
        name = name.replace("-", "_")
        if name in done or name not in self.files:
            return []
        image = self.image(name)
        done[name] = image
        needs = re.search(rb"\0depends=([^\0]*)\0", image)
        before = needs.group(1).decode().split(",") if needs else []
        return [load for need in before if need for load in self.ordered(need, done)] + [name]


# ---- the guest's first file system ----------------------------------------------------------


INIT = """#!/bin/sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
exec >/dev/ttyS1 2>&1
load() {{ insmod /modules/$1.ko $2 || echo "vm: module $1 does not load"; }}
{mounts}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose,ro host /host
mount -t tmpfs memory /memory; mkdir /memory/upper /memory/work
cd /memory
mount -t overlay -o lowerdir=/host,upperdir=upper,workdir=work root /root || poweroff -f
{devices}
ip link set lo up
ip link add dev vcan0 type vcan; ip link set vcan0 mtu 72 up
cd /root; mkdir -p proc sys dev run tmp
mount -t proc proc proc; mount -t sysfs sys sys; mount --move /dev dev
mkdir -p dev/pts dev/shm; mount -t devpts pts dev/pts; mount -t tmpfs shm dev/shm
mount -t tmpfs run run; mkdir run/out
mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 out run/out
chroot /root /bin/sh -c {command}
echo $? >/root/run/out/code
poweroff -f
"""


def cpio(entries: list[tuple[str, int, bytes]]) -> bytes:
    """An archive in the format that the kernel unpacks: (path, mode, content)."""
    archive = b""
    for number, (path, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields) + name
        archive += head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
    return archive


def initramfs(modules: Modules, command: str) -> bytes:
    """busybox, the modules and the script that mounts, loads, runs the command and powers off."""
    busybox = Path(tool("busybox", "busybox-static"))
    images: dict[str, bytes] = {}
    mounts = [f"load {load}" for name in MOUNTS for load in modules.ordered(name, images)]
    devices = []
    for name, parameters in DEVICES:
        loads = modules.ordered(name, images)
        if not loads and name.replace("-", "_") not in images:
            devices.append(f"echo 'vm: this kernel has no module {name}'")
        devices += [f"load {load}" for load in loads[:-1]]
        devices += [f"load {load} '{parameters}'" for load in loads[-1:]]
    script = INIT.format(
        mounts="\n".join(mounts), devices="\n".join(devices), command=shlex.quote(command)
    )
    folders = ("bin", "modules", "proc", "sys", "dev", "host", "memory", "root")
    applets = ("sh", "mount", "insmod", "mkdir", "chroot", "poweroff", "ip", "echo")
    return gzip.compress(
        cpio(
            [(folder, 0o040755, b"") for folder in folders]
            + [("bin/busybox", 0o100755, busybox.read_bytes())]
            + [(f"bin/{name}", 0o120777, b"busybox") for name in applets]
            + [(f"modules/{name}.ko", 0o100644, image) for name, image in images.items()]
            + [("init", 0o100755, script.encode())]
        ),
        compresslevel=1,
    )


# ---- one boot -----------------------------------------------------------------------------


def boot(unpacked: Path, command: str, timeout_s: float) -> int:
    """Run a shell command in the guest; its output is printed as it comes. Its exit code."""
    qemu = tool("qemu-system-x86_64", "qemu-system-x86")
    with tempfile.TemporaryDirectory(prefix="inphase-vm-") as folder:
        initrd, out, log = Path(folder, "initrd"), Path(folder, "out"), Path(folder, "console")
        out.mkdir()
        initrd.write_bytes(initramfs(Modules(unpacked), command))
        arguments = [
            *(qemu, "-accel", "tcg", *QEMU),
            *("-kernel", str(next(unpacked.glob("boot/vmlinuz-*"))), "-initrd", str(initrd)),
            *("-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off iomem=relaxed"),
            *("-serial", f"file:{log}", "-serial", "stdio", "-monitor", "none"),
            *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
            *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
            *("-fsdev", f"local,id=out,path={out},security_model=none"),
            *("-device", "virtio-9p-pci,fsdev=out,mount_tag=out"),
        ]
        try:
            subprocess.run(arguments, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            print(f"vm: no end after {timeout_s:.0f} s", file=sys.stderr)
        code = out / "code"
        if code.exists() and code.read_text().strip():
            return int(code.read_text())
        print("vm: the guest ended early; the last of its console:", file=sys.stderr)
        print("\n".join(log.read_text(errors="replace").splitlines()[-30:]), file=sys.stderr)
        return 1


def main() -> int:
    """The command line; the exit code is pytest's, 77 when this machine lacks something."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", default=KERNEL, help="Debian package (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, help="seconds for all of it")
    parser.add_argument("--command", help="a shell command to run instead of the tests")
    options, rest = parser.parse_known_args()
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": os.environ.get("HOME", "/root"),
        "INPHASE_GUEST": "1",
        "INPHASE_TEST_BOUND_S": "90",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *rest]
    if not any(Path(word.partition("::")[0]).exists() for word in rest):
        pytest.append(str(HERE))
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command = f"cd {shlex.quote(str(ROOT))} && export {words} && "
    command += options.command or shlex.join(pytest)
    start = time.monotonic()
    try:
        code = boot(kernel(options.kernel), command, options.timeout)
    except Missing as missing:
        print(f"vm: {missing}", file=sys.stderr)
        return 77
    print(f"vm: exit code {code} after {time.monotonic() - start:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
