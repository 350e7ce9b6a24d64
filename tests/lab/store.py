"""A lab with storage for proofs on real VMs that write to their disks while things happen to them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.settings import SHARED
from pvc.lab.shape import Shape
from tests.lab.cluster import RealCluster
from tests.lab.recordings import Recording, Said, faults, last_words, read, recording_of, said_in

MIB = 1 << 20
PANIC = "Kernel panic - not syncing"


@dataclass(frozen=True)
class Recorder:
    """A VM that writes numbered records to its only disk, and all that it has said so far."""

    store: "Store"
    name: str
    disk: str
    """POOL/VOLUME, or the path of a raw file."""
    console: Path

    def said(self) -> Said:
        """What it has said on its console since it was first started."""
        return said_in(self.console.read_text(errors="replace").rpartition("\n")[0])

    def wait_for(self, more: int = 20) -> None:
        """Wait until the disk has acknowledged so many more records."""
        until = len(self.said().acknowledged) + more
        self.store.wait(
            f"{self.name} has written {until} records",
            lambda: len(self.said().acknowledged) >= until or bool(self.said().complaints),
        )
        assert not self.said().complaints, self.said()

    def wait_for_start(self, number: int) -> None:
        """Wait until it has begun to write for that time, and gone on for a while."""
        self.store.wait(f"{self.name} starts", lambda: len(self.said().writers) >= number)
        self.wait_for()

    def demand_no_start(self, starts: Sequence[str]) -> None:
        """That it still runs as it did when it had said these names.

        Skips if its kernel has panicked: QEMU's emulator now and then loses what a guest writes to its memory as it is
        copied to another host, where the processors are busy. No guest of a lab has KVM; see docs/testing.md.
        """
        new = self.said().writers[len(starts) :]
        if not new:
            return
        before = last_words(self.console.read_text(errors="replace"), new[0])
        if PANIC in before:
            pytest.skip(f"the kernel of {self.name} panicked: QEMU's emulator has lost a page of its memory in a move")
        pytest.fail(f"{self.name} was started anew, after {before[-2000:]}")

    def faults_so_far(self) -> list[str]:
        """All that shows that records were lost, or that two have written; its disk is a raw file and it may run."""
        said = self.said()
        assert len(said.acknowledged) > 20, "it was hardly used"
        return faults(self.store.read(self.disk).up_to(max(said.acknowledged)), said)

    def faults(self) -> list[str]:
        """The same of any disk; powers the VM off."""
        self.store.ok("vm", "stop", self.name, "--yes")
        said = self.said()
        assert len(said.acknowledged) > 20, "it was hardly used"
        return faults(self.store.read(self.disk), said)


@dataclass(frozen=True)
class Store(RealCluster):
    """The product in a lab with storage. VMs have the image `linux`."""

    @property
    def shared(self) -> Path:
        """The directory that all hosts share, as seen outside of the lab."""
        return self.lab.shared_directory

    def add_file(self, name: str, size: int = 16 * MIB) -> str:
        """Make an empty raw image in the shared directory; its path in the lab.

        So many records take 27 minutes to fill it, and none is written over while a test looks at it.
        """
        with (self.shared / name).open("wb") as file:
            file.truncate(size)
        return f"{SHARED}/{name}"

    @contextmanager
    def recorder(self, name: str, node: str, disk: str, output: Path) -> Iterator[Recorder]:
        """A VM that records on a disk, started on a node, until the block ends. Its console is kept in a directory."""
        xml = self.lab.write_vm(name, arguments="rate=0 record=vda", disks=[disk])
        self.ok("vm", "define", str(xml), "--node", node)
        console = output / f"{name}.txt"
        follower = self.begin(console, "vm", "log", "--follow", "--lines", "1000", name)
        try:
            self.ok("vm", "start", name)
            made = Recorder(self, name, disk, console)
            made.wait_for_start(1)
            yield made
        finally:
            follower.signal(SIGTERM)
            follower.wait(10)
            self.pvc("vm", "stop", name, "--yes")  # it may have ended
            self.pvc("vm", "undefine", name, "--yes")

    def findings(self, node: str) -> str:
        """All that a node has to complain of, as one text."""
        return str(self.node(node)["findings"])

    def read(self, disk: str, *, node: str = "hv2", snapshot: str | None = None) -> Recording:
        """The records on a disk that no VM has open, or on one of its snapshots; `node`: one that can use its pool."""
        if disk.startswith("/"):
            return read(self.shared / Path(disk).relative_to(SHARED))
        pool, _, volume = disk.partition("/")
        target = self.shared / f"{volume}.export"
        target.unlink(missing_ok=True)
        path = f"{SHARED}/{target.name}"
        of = ["--snapshot", snapshot] if snapshot else []
        self.ok("storage", "volume", "export", pool, volume, path, "--node", node, "--format", "raw", *of)
        return recording_of(target.read_bytes())


@contextmanager
def store(
    labs_directory: Path, name: str, *, nodes: int = 3, hypervisor_only: tuple[str, ...] = (), ceph: bool = False
) -> Iterator[Store]:
    """A store of that name for as long as the block lasts."""
    shape = Shape(nodes=nodes, vms=0, vm_image="linux", storage=True, ceph=ceph, hypervisor_only=hypervisor_only)
    lab = Lab(name, shape, directory=labs_directory)
    try:
        lab.up()
        yield Store(lab)
    finally:
        lab.down()
