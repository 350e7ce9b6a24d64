"""The pool of a real small Ceph cluster, for tests of `Backend`."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvc.core.process import Running, SystemProcesses
from pvc.core.storage import Pool
from pvc.core.threads import ThreadRuntime
from pvc.lab.ceph import MiniCeph
from pvc.lab.deadline import wait_until
from pvc.plugins.storage.ceph.decide.images import qemu_name
from pvc.plugins.storage.ceph.rbd import RbdBackend, opener
from pvc.plugins.storage.schema import CephSettings

DEADLINE = 60.0


class Rbd:
    """An RBD pool, and QEMU's own programs as what a VM is."""

    format = "raw"

    def __init__(self, ceph: MiniCeph, directory: Path) -> None:
        self.ceph = ceph
        self.processes = SystemProcesses()
        self.settings = CephSettings(conf=str(ceph.conf))
        opened = opener(self.processes, ThreadRuntime(), self.settings)(Pool("fast", "ceph", {"pool": ceph.pool}))
        assert isinstance(opened, RbdBackend)
        self.backend = opened
        self._directory = directory
        self._count = 0

    def check(self, *command: str) -> str:
        """Run a program of Ceph's as its administrator; what it prints."""
        return self.processes.check([command[0], "--conf", str(self.ceph.conf), *command[1:]], timeout=60)

    def write(self, image: str, letter: str) -> None:
        self._io(image, f"write -q -P {ord(letter)} 0 64k")

    def read(self, image: str) -> str:
        return chr(int(self._io(image, "read -v 0 1").split()[1], 16)).rstrip("\0")

    def file(self, letter: str, size: int) -> str:
        path = self.new_path()
        with Path(path).open("wb") as made:
            made.write(letter.encode() * 65536)
            made.truncate(size)
        return path

    def read_file(self, path: str) -> str:
        with Path(path).open("rb") as found:
            return found.read(1).decode()

    def no_image(self) -> str:
        path = self.new_path()
        Path(path).write_text("not whole sectors")
        return path

    def new_path(self) -> str:
        self._count += 1
        return str(self._directory / f"file{self._count}")

    def watchers(self, image: str) -> Sequence[str]:
        """Which clients have an image open, by Ceph's own word."""
        return tuple(self.backend.watchers(image))

    @contextmanager
    def held(self, image: str) -> Iterator[None]:
        with self.opened(image):
            yield

    @contextmanager
    def opened(self, image: str) -> Iterator[Running]:
        """QEMU's block layer has an image open, and closes it in the end as a VM does that is shut down."""
        node = f"driver=rbd,node-name=n,pool={self.ceph.pool},image={image},conf={self.ceph.conf},user=admin"
        command = ["qemu-storage-daemon", "--blockdev", node]
        running = self.processes.start(command, output=self._directory / "qemu")
        try:
            wait_until(ThreadRuntime(), DEADLINE, lambda: None if self.watchers(image) else f"{image} is not open")
            yield running
        finally:
            running.signal(signal.SIGTERM)
            assert running.wait(DEADLINE) is not None

    def _io(self, image: str, command: str) -> str:
        name = qemu_name(self.ceph.pool, image, None, str(self.ceph.conf), "admin")
        return self.processes.check(["qemu-io", "-c", command, name], timeout=60)


@pytest.fixture
def rbd(ceph: MiniCeph, tmp_path: Path) -> Rbd:
    """The session's cluster with an empty pool."""
    made = Rbd(ceph, tmp_path)
    made.check("rados", "--pool", ceph.pool, "purge", ceph.pool, "--yes-i-really-really-mean-it")
    return made
