"""What the lab's VMs boot: built at the first use, kept in the cache under a name that tells its contents."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvc.core.process import Processes
from pvc.lab.errors import LabError

SOURCES = Path(__file__).parent / "kernel"
COMPILE = (
    *("gcc", "-m32", "-march=i686", "-O2", "-ffreestanding", "-nostdlib", "-static", "-fno-pic", "-no-pie"),
    *("-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-mgeneral-regs-only"),
    *("-Wall", "-Wextra", "-Wl,--build-id=none"),
)
POWER_BUTTON_DRIVERS = ("drivers/acpi/button.ko", "drivers/input/evdev.ko")
VIRTIO_DRIVERS = (
    *("drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_legacy_dev.ko"),
    *("drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko", "net/core/failover.ko"),
    *("drivers/net/net_failover.ko", "drivers/net/virtio_net.ko", "drivers/block/virtio_blk.ko"),
)
"""In the order in which they need each other."""
PROGRAM = ("gcc", "-static", "-Os", "-Wall", "-Wextra", "-Wl,--build-id=none", "-Wl,--strip-all")
PACK = """\
root=$1 target=$2
shift 2
cd "$root"
mkdir bin dev etc proc run sys drivers
cp "$1" init
cp "$2" "$3" "$4" "$5" bin
chmod 755 init bin/*
shift 5
number=10
for driver; do
        cp "$driver" "drivers/$number-${driver##*/}"
        number=$((number + 1))
done
find . | cpio --quiet -o -H newc > "$target"
rm -rf "$root"
"""
SHIM = ("gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra")
BUILD_TIME = 60.0


@dataclass(frozen=True, slots=True)
class Image:
    """What a VM boots and how much memory it needs."""

    kernel: Path
    initrd: Path | None
    arguments: str
    """The start of its kernel command line."""
    memory: int
    """MiB that are enough for it."""
    shell: bool = False
    """It runs commands that come on its second serial port."""


def prepare(name: str, cache: Path, processes: Processes) -> Image:
    """The image of that name, built if it is missing. Raises LabError or CommandFailed if it cannot be built."""
    cache.mkdir(parents=True, exist_ok=True)
    return _tiny(cache, processes) if name == "tiny" else _linux(cache, processes)


def _tiny(cache: Path, processes: Processes) -> Image:
    sources = [SOURCES / "boot.S", SOURCES / "main.c", SOURCES / "link.ld"]
    target = cache / f"tiny-{_digest([path.read_bytes() for path in sources], COMPILE)}.elf"

    def build(path: Path) -> None:
        code, layout = [str(source) for source in sources[:2]], str(sources[2])
        processes.check([*COMPILE, f"-Wl,-T,{layout}", *code, "-o", str(path)], timeout=BUILD_TIME)

    return Image(_built(target, build), None, "", 32)


def _linux(cache: Path, processes: Processes) -> Image:
    kernels = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"))
    busybox = Path("/bin/busybox")
    if not kernels or not busybox.exists():
        raise LabError(
            "the linux VM image is made of Debian's linux-image-cloud-amd64 and busybox-static; install both"
        )
    modules = Path("/lib/modules", kernels[-1].name.removeprefix("vmlinuz-"), "kernel")
    drivers = [modules / name for name in (*POWER_BUTTON_DRIVERS, *VIRTIO_DRIVERS)]
    own = [program(name, cache, processes) for name in ("pinger", "recorder")]
    programs = [Path("/bin/busybox"), SOURCES / "lease", *own]
    contents = [SOURCES / "init", *programs, *drivers]
    target = cache / f"linux-{_digest([path.read_bytes() for path in contents], [PACK])}.cpio"

    def build(path: Path) -> None:
        root = path.with_suffix(".root")
        root.mkdir()
        words = [str(word) for word in (root, path, *contents)]
        processes.check(["sh", "-euc", PACK, "sh", *words], timeout=BUILD_TIME)

    return Image(kernels[-1], _built(target, build), "console=ttyS0 quiet panic=-1", 192, shell=True)


def program(name: str, cache: Path, processes: Processes) -> Path:
    """The program `pinger` or `recorder`, for VMs and hosts; how it is called is told in its source."""
    source = SOURCES / f"{name}.c"
    target = cache / f"{name}-{_digest([source.read_bytes()], PROGRAM)}" / name
    target.parent.mkdir(parents=True, exist_ok=True)

    def build(path: Path) -> None:
        processes.check([*PROGRAM, str(source), "-o", str(path)], timeout=BUILD_TIME)

    return _built(target, build)


def shim(cache: Path, processes: Processes) -> Path:
    """The library that has a libvirtd take the lab's shared directory for one; see its source."""
    source = SOURCES / "shared.c"
    target = cache / f"shared-{_digest([source.read_bytes()], SHIM)}.so"

    def build(path: Path) -> None:
        processes.check([*SHIM, str(source), "-o", str(path)], timeout=BUILD_TIME)

    return _built(target, build)


def _digest(contents: list[bytes], words: Sequence[str]) -> str:
    return hashlib.sha256(b"\0".join([*contents, *(word.encode() for word in words)])).hexdigest()[:12]


def _built(target: Path, build: Callable[[Path], None]) -> Path:
    """Build beside the target and rename: two labs may come up at once."""
    if not target.exists():
        fresh = target.with_name(f"{target.stem}.{os.getpid()}{target.suffix}")
        build(fresh)
        fresh.replace(target)
    return target
