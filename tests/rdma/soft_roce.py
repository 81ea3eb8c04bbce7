"""`make soft-roce`: two sidecars move KV by real verbs, on a machine that has no RDMA device.

A guest under emulation (QEMU's TCG; nothing is asked of this machine's processor) boots Debian's
kernel, which brings soft-RoCE: verbs over an ordinary network interface. The guest sees this
machine's files, and writes none of them. It takes 3 to 10 minutes, so it is no part of `make test`.

All it needs comes from Debian's packages into .cache/soft-roce; nothing is installed.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.rdma.initramfs import write_initramfs

ROOT: Final = Path(__file__).parents[2]
PLACE: Final = ROOT / ".cache" / "soft-roce"
UNPACKED: Final = PLACE / "root"

PACKAGES: Final = (
    "qemu-system-x86",
    "linux-image-amd64",
    "busybox-static",
    "libibverbs1",
    "ibverbs-providers",
)
_FOR_INSTALLING: Final = {"initramfs-tools", "dracut", "linux-base", "kmod", "debconf", "ipxe-qemu"}
"""What packages ask for to be installed, or to boot from a network."""

BOOT_S: Final = 1800
"""Three times what it takes on an idle machine."""
PASSED: Final = "SOFT-ROCE PASSED"
_LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")


def main() -> int:
    """The exit status: 0 when KV has moved by verbs, 2 when this machine cannot run the guest."""
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    if missing or platform.machine() != "x86_64":
        print(f"SKIPPED: this needs Debian on x86_64; missing: {missing}, {platform.machine()}")
        return 2
    if not (UNPACKED / "usr/bin/qemu-system-x86_64").exists():
        _fetch()
    initramfs = PLACE / "initramfs"
    write_initramfs(UNPACKED, initramfs, _commands())
    return 0 if _boot(initramfs) else 1


def _fetch() -> None:
    """Downloads and unpacks what this machine does not have installed."""
    debs = PLACE / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    wanted = [name for name in _closure() if name in PACKAGES or not _is_installed(name)]
    print(f"fetching {len(wanted)} packages", flush=True)
    subprocess.run(["apt-get", "download", "--quiet", *wanted], cwd=debs, check=True)
    for deb in sorted(debs.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(UNPACKED)], check=True)


def _closure() -> list[str]:
    """The packages and what they depend on, by name."""
    left_out = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    flags = ["--recurse", *(f"--no-{relation}" for relation in left_out)]
    known: set[str] = set()
    for package in PACKAGES:
        depth = [] if package == "linux-image-amd64" else flags
        said = subprocess.run(
            ["apt-cache", "depends", *depth, package], capture_output=True, text=True, check=True
        ).stdout
        for line in said.splitlines():
            name = line.removeprefix("  Depends:").strip()
            if name.replace("+", "").replace(".", "").replace("-", "").isalnum():
                known.add(name)
    return sorted(known - _FOR_INSTALLING)


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}", package]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.startswith("ii")


def _commands() -> str:
    """What the guest's first process runs in the end, as a shell's script."""
    here, libraries = UNPACKED, "usr/lib/x86_64-linux-gnu"
    return "\n".join(
        (
            f"cd {here}/{libraries}",
            f"cp -a lib*verbs* libmlx* libefa* libmana* libnl-* /{libraries}/",
            f"cp -a {here}/lib/x86_64-linux-gnu/libnl-* /{libraries}/",
            f"mkdir -p /etc/libibverbs.d && cp -a {here}/etc/libibverbs.d/. /etc/libibverbs.d/",
            "ldconfig",
            "ip link set lo up",
            # No network of this machine's: soft-RoCE needs an interface, not a wire.
            "ip link add kv0 type dummy && ip link set kv0 mtu 4200 up",
            "ip address add 10.9.9.1/24 dev kv0",
            "rdma link add rxe0 type rxe netdev kv0",
            "rdma link show",
            f"cd {ROOT}",
            f"{sys.executable} images/system_verbs.py $({sys.executable} -c "
            "'import sysconfig; print(sysconfig.get_path(\"purelib\"))')",
            f"HOME=/tmp PYTHONDONTWRITEBYTECODE=1 UCX_NET_DEVICES=rxe0:1 timeout {BOOT_S} "
            f"{sys.executable} -m tests.rdma.guest",
        )
    )


def _boot(initramfs: Path) -> bool:
    """Runs the guest to its end, showing what it says; whether it said that all is well."""
    (kernel,) = (UNPACKED / "boot").glob("vmlinuz-*")
    libraries = ":".join(str(UNPACKED / place) for place in _LIBRARIES)
    shared = UNPACKED / "usr/share"
    command = [
        str(UNPACKED / "usr/bin/qemu-system-x86_64"),
        *("-L", str(shared / "qemu"), "-L", str(shared / "seabios")),
        *("-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35,usb=off"),
        *("-m", "3072", "-smp", "2", "-nodefaults", "-no-user-config", "-no-reboot"),
        *("-nographic", "-serial", "stdio", "-monitor", "none", "-nic", "none"),
        *("-kernel", str(kernel), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 panic=1 quiet loglevel=4 mitigations=off"),
        *("-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=host,mount_tag=host"),
    ]
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    passed = False
    with subprocess.Popen(
        ["timeout", str(BOOT_S), *command],
        env=environment,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    ) as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            print(line.rstrip(), flush=True)
            passed |= line.startswith(PASSED)
    return passed


if __name__ == "__main__":
    sys.exit(main())
