"""A virtual machine with Bluetooth: a kernel of Debian's, BlueZ, and the tests beside this file.

``python -m tests.bluez.guest [ARGUMENTS OF PYTEST]`` boots it, runs them there as root, and ends
with their exit code. Nothing is installed in it: it sees the files of this machine, and what it
writes is in its memory. Its processor is emulated, so it runs anywhere, at a tenth of the speed.

All that it needs is GPL, is run as it comes from Debian, and is no part of this package.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[2]
UNPACKED: Final = ROOT / "target" / "bluez"

PROGRAMS: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "bluetoothctl": "bluez",
    "dbus-daemon": "dbus-daemon",
}
"""What must be there, and Debian's package of it."""

MODULES: Final = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay"),
    *("crc16", "ecb", "cmac", "sha256_generic", "ecdh_generic"),
    *("af_alg", "algif_hash", "algif_skcipher"),
    *("rfkill", "uhid", "bluetooth", "hci_vhci"),
)

PYTEST: Final = (
    *("--confcutdir=tests/bluez", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout"),
    *("-p", "no:cacheprovider", "-p", "no:unraisableexception", "-W", "default"),
    *("--color=no", "--tb=short", "--timeout=120"),
)
"""Plugins that the tests use, and no others: it takes a minute to load those."""

SECONDS: Final = 900
"""After which a machine that hangs is ended."""

BEGIN, END = "== the guest begins ==", "== the guest ends with "

INIT: Final = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
while read module; do $b insmod /modules/$module.ko; done < /modules/order
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=262144 host /lower
$b mount -t tmpfs -o size=70% upper /upper
$b mkdir /upper/files /upper/work
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /whole
for kept in dev proc sys; do $b mount -o bind /$kept /whole/$kept; done
for empty in run var/lib/bluetooth; do
  $b mkdir -p /whole/$empty; $b mount -t tmpfs $empty /whole/$empty
done
$b mkdir /whole/run/dbus
$b ip link set lo up
echo '{begin}'
$b chroot /whole /bin/sh -c '{command}'
echo "{end}$?"
$b poweroff -f
"""


# ruff: noqa: T201 - what the guest says is shown


def main(arguments: list[str]) -> int:
    """Run pytest in the guest; its exit code, or 2 where something is missing."""
    missing = [package for program, package in PROGRAMS.items() if _program(program) is None]
    kernel = _kernel()
    if kernel is None:
        missing.append("linux-image-amd64")
    if missing or kernel is None:
        print(
            f"a machine with BlueZ needs Debian's packages {', '.join(missing)}: "
            f"apt-get install {' '.join(missing)}\n"
            f"(a kernel may also be unpacked, with dpkg -x, in {UNPACKED.relative_to(ROOT)})",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as folder:
        initrd = Path(folder) / "initrd"
        initrd.write_bytes(_initrd(kernel[1], arguments or ["tests/bluez"]))
        return _boot(kernel[0], initrd)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _kernel() -> tuple[Path, Path] | None:
    """A kernel with modules for Bluetooth, and their folder: the newest that there is."""
    for root in (UNPACKED, Path("/")):
        for modules in sorted((root / "lib" / "modules").glob("*"), reverse=True):
            image = root / "boot" / f"vmlinuz-{modules.name}"
            if image.exists() and any(modules.rglob("hci_vhci.ko")):
                return image, modules
    return None


def _boot(image: Path, initrd: Path) -> int:
    machine = [
        *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "1024", "-no-reboot"),
        *("-nographic", "-nodefaults", "-serial", "stdio"),
        *("-kernel", str(image), "-initrd", str(initrd)),
        *("-append", "console=ttyS0 quiet panic=-1"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
    ]
    code, shown, ended = 1, False, False
    with subprocess.Popen(
        machine, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as running:
        assert running.stdout is not None
        limit = threading.Timer(SECONDS, running.kill)
        limit.start()
        before: list[str] = []
        try:
            for line in running.stdout:
                if line.startswith(END):
                    code, shown, ended = int(line.removeprefix(END)), False, True
                elif shown:
                    print(line, end="", flush=True)
                elif line.startswith(BEGIN):
                    shown = True
                else:
                    before.append(line)
        finally:
            limit.cancel()
            running.kill()
    if not ended:
        print("the guest did not come to an end:", *before[-20:], sep="\n", file=sys.stderr)
    return code


def _initrd(modules: Path, arguments: list[str]) -> bytes:
    """The first files of the guest: a shell, modules, and what to do."""
    found = {path.stem: path for path in modules.rglob("*.ko")}
    order = list(dict.fromkeys(name for wanted in MODULES for name in _needed(wanted, found)))
    python = ROOT / ".venv" / "bin" / "python"
    variables = "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 FOG_BLUEZ_GUEST=1"
    run = (
        f"cd {ROOT} && {variables} {shlex.join([str(python), '-m', 'pytest', *PYTEST, *arguments])}"
    )
    quoted = run.replace("'", "'\\''")
    init = INIT.format(begin=BEGIN, end=END, command=quoted)
    busybox = _program("busybox")
    assert busybox is not None
    files: dict[str, bytes | None] = dict.fromkeys(
        ["bin", "dev", "proc", "sys", "lower", "upper", "whole", "modules"]
    )
    files["bin/busybox"] = Path(busybox).resolve().read_bytes()
    files["init"] = init.encode()
    files["modules/order"] = "".join(f"{name}\n" for name in order).encode()
    files |= {f"modules/{name}.ko": found[name].read_bytes() for name in order}
    return b"".join(_archived(files))


def _needed(name: str, found: dict[str, Path]) -> Iterator[str]:
    """A module after all that it needs; those that are part of the kernel have no file."""
    path = found.get(name) or found.get(name.replace("_", "-"))
    if path is None:
        return
    said = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
    for other in (said.group(1).decode() if said else "").split(","):
        yield from _needed(other, found)
    yield path.stem


def _archived(files: dict[str, bytes | None]) -> Iterable[bytes]:
    """An archive in cpio's format "newc", as the kernel reads it; None is a folder."""
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], start=1):
        mode = stat.S_IFDIR if data is None else stat.S_IFREG
        body, title = data or b"", name.encode() + b"\0"
        fields = (number, mode | 0o755, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(title), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + title
        yield head + bytes(-len(head) % 4) + body + bytes(-len(body) % 4)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
