"""Storages to test a `Backend` on, each with a way to write to an image and to read it beside the backend.

A storage of your own: make a class that does what `Storage` says, and add it to `STORAGES` in test_backends.py.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from pvc.core.storage import Backend, Feature, Pool
from pvc.core.threads import ThreadRuntime
from pvc.testing.storage import FakeContents, FakeStorage

MEBIBYTE = 1 << 20


class Storage(Protocol):
    """One empty pool, its backend on this machine, and what a test needs beside."""

    backend: Backend
    format: str
    """Of images that the backend makes."""

    def write(self, image: str, letter: str) -> None:
        """Fill the first 64 KiB of an image with an ASCII letter, as a VM would."""

    def read(self, image: str) -> str:
        """The letter that is there; empty: zeros."""

    def file(self, letter: str, size: int) -> str:
        """A new raw file on this machine that begins so; its path."""

    def read_file(self, path: str) -> str:
        """The letter at the beginning of a file that was saved as raw."""

    def no_image(self) -> str:
        """A path at which no image is."""

    def new_path(self) -> str:
        """A path at which a file can be made."""

    def held(self, image: str) -> AbstractContextManager[None]:
        """Have a program open an image in order to write, as long as the block lasts."""


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
