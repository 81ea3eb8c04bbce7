"""The first file system of the guest: a shell, the modules it needs, and what it is to do."""

import gzip
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MODULES: Final = (
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "overlay",
    "dummy",
    "rdma_rxe",
    "ib_uverbs",
    "rdma_ucm",
    "crc32c_generic",
    "crc32_generic",  # rxe asks for it by name only: nothing says that it depends on it
)
"""Of Debian's kernel; what is built in is not found, and not needed."""

_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")

_INIT: Final = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
for module in {modules}; do $B insmod /modules/$module.ko || echo "no module $module"; done
$B mount -t tmpfs tmpfs /scratch; $B mkdir /scratch/upper /scratch/work
$B mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,cache=loose,ro host /host
$B mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work both /root
$B mount -t proc proc /root/proc; $B mount -t sysfs sys /root/sys
$B mount -t devtmpfs dev /root/dev; $B mkdir -p /root/dev/shm
$B mount -t tmpfs tmpfs /root/dev/shm
echo "the guest is up: $($B uname -r)"
PATH=/usr/sbin:/usr/bin:/sbin:/bin $B chroot /root /bin/bash -s < /commands
$B poweroff -f
"""


def write_initramfs(unpacked: Path, target: Path, commands: str) -> None:
    """Writes it from Debian's unpacked packages; `commands` run in a view of this machine's /."""
    modules = list(_needed_modules(unpacked / "lib" / "modules"))
    order = " ".join(module.stem for module in modules)
    init = _INIT.replace("{modules}", order)
    with gzip.open(target, "wb", compresslevel=1) as archive:
        for directory in ("bin", "modules", "proc", "sys", "dev", "scratch", "host", "root"):
            archive.write(_entry(directory, stat.S_IFDIR | 0o755, b""))
        archive.write(_entry("init", stat.S_IFREG | 0o755, init.encode()))
        archive.write(_entry("commands", stat.S_IFREG | 0o644, commands.encode() + b"\n"))
        busybox = (unpacked / "bin" / "busybox").read_bytes()
        archive.write(_entry("bin/busybox", stat.S_IFREG | 0o755, busybox))
        for module in modules:
            name = f"modules/{module.stem}.ko"
            archive.write(_entry(name, stat.S_IFREG | 0o644, module.read_bytes()))
        archive.write(_entry("TRAILER!!!", 0, b""))


def _needed_modules(directory: Path) -> Iterator[Path]:
    """The modules and what they depend on, in the order in which they load."""
    known = {path.stem.replace("-", "_"): path for path in directory.glob("*/kernel/**/*.ko")}
    done: set[str] = set()

    def visit(name: str) -> Iterator[Path]:
        if name in done or name not in known:
            return
        done.add(name)
        told = _DEPENDS.search(known[name].read_bytes())
        for other in told[1].decode().split(",") if told and told[1] else ():
            yield from visit(other.replace("-", "_"))
        yield known[name]

    for module in MODULES:
        yield from visit(module)


_inode = iter(range(1, 1 << 20))


def _entry(name: str, mode: int, content: bytes) -> bytes:
    """A file in the kernel's cpio format (newc): 13 numbers in hexadecimal, name, bytes."""
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    numbers = (next(_inode), mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + path
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
