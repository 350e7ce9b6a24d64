"""Storages to test a `Backend` on, each with a way to write to an image and to read it beside the backend.

Each does what `pvc.testing.storagecontract.Storage` says, and is named in `STORAGES` in test_backends.py.
"""

import fcntl
import os
import shutil
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pvc.core.process import Processes, Running, SystemProcesses
from pvc.core.storage import Backend, Feature, Pool
from pvc.core.threads import ThreadRuntime
from pvc.plugins.storage.directory.backend import opener
from pvc.plugins.storage.filesystem import SystemDirectories
from pvc.testing.storage import FakeContents, FakeStorage
from pvc.testing.storagecontract import MEBIBYTE, Storage

__all__ = ["MEBIBYTE", "Storage"]


class FakeOne:
    """A pool of a `FakeStorage`."""

    format = "raw"

    def __init__(self, features: frozenset[Feature] = frozenset(Feature)) -> None:
        self.storage = FakeStorage(ThreadRuntime(), features)
        self.backend: Backend = self.storage.open_on("hv1")(Pool("fast", "fake"))
        self._count = 0

    def write(self, image: str, letter: str) -> None:
        self.storage.writes("fast", image, letter)

    def read(self, image: str) -> str:
        return self.storage.image("fast", image).contents.text

    def file(self, letter: str, size: int) -> str:
        path = self.new_path()
        self.storage.files["hv1", path] = FakeContents(size, letter)
        return path

    def read_file(self, path: str) -> str:
        contents = self.storage.files["hv1", path]
        assert isinstance(contents, FakeContents)
        return contents.text

    def no_image(self) -> str:
        return self.new_path()

    def new_path(self) -> str:
        self._count += 1
        return f"/tmp/file{self._count}"

    @contextmanager
    def held(self, image: str) -> Iterator[None]:
        self.storage.opens("fast", image, "hv2")
        yield
        self.storage.closes("fast", image, "hv2")


def fake(directory: Path) -> Storage:
    """A storage that can do everything."""
    return FakeOne()


def plain_fake(directory: Path) -> Storage:
    """A storage that can do nothing but what all can."""
    return FakeOne(frozenset())


class Directory:
    """A real directory, and the real qemu-img. Needs no rights but to write there."""

    def __init__(self, directory: Path, format: str) -> None:
        if missing := [program for program in ("qemu-img", "qemu-io") if shutil.which(program) is None]:
            pytest.skip(f"{' and '.join(missing)} cannot be found")
        self.format = format
        self.path = directory / "pool"
        self.path.mkdir()
        self.files = directory / "files"
        self.files.mkdir()
        self.processes = SystemProcesses()
        pool = Pool("slow", "directory", {"path": str(self.path), "format": format, "mount": "false"})
        self.backend: Backend = opener(self.processes, ThreadRuntime(), SystemDirectories())(pool)
        self._count = 0

    def file_of(self, image: str) -> str:
        return str(self.path / f"{image}.{self.format}")

    def write(self, image: str, letter: str) -> None:
        self._io(self.file_of(image), self.format, f"write -q -P {ord(letter)} 0 64k")

    def read(self, image: str) -> str:
        found = self._io(self.file_of(image), self.format, "read -v 0 1").split()[1]
        return chr(int(found, 16)).rstrip("\0")

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
        return str(self.files / f"file{self._count}")

    @contextmanager
    def held(self, image: str) -> Iterator[None]:
        with held_by_qemu_io(self.processes, self.file_of(image), self.format, self.files / "qemu-io"):
            yield

    def _io(self, path: str, format: str, command: str) -> str:
        return self.processes.check(["qemu-io", "-f", format, "-c", command, path], timeout=30)


@contextmanager
def held_by_qemu_io(processes: Processes, path: str, format: str, output: Path) -> Iterator[Running]:
    """Have QEMU's own code keep an image open, which was seen to have it."""
    running = processes.start(["qemu-io", "-f", format, "-c", "sleep 600000", path], output=output)
    try:
        await_lock(running, path)
        yield running
    finally:
        running.signal(signal.SIGKILL)
        assert running.wait(30) is not None


def await_lock(running: Running, path: str) -> None:
    """Wait until a program has QEMU's lock on an image, a minute at most."""
    for _ in range(6000):
        if has_lock(path):
            return
        assert running.wait(0.01) is None, "the program that should hold the image has ended"
    raise AssertionError(f"nobody locks {path}")


def has_lock(path: str) -> bool:
    """Whether the kernel knows of a lock on the byte by which QEMU says that it reads an image."""
    question = struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 100, 1, 0)
    with Path(path).open("r+b") as opened:
        answer = fcntl.fcntl(opened, fcntl.F_OFD_GETLK, question)
    return bool(struct.unpack("hhqqixxxx", answer)[0] != fcntl.F_UNLCK)


def directory_of_qcow2(directory: Path) -> Storage:
    """Files of qcow2 with qemu-img."""
    return Directory(directory, "qcow2")


def directory_of_raw(directory: Path) -> Storage:
    """Sparse files of the size of the disk."""
    return Directory(directory, "raw")
