"""The real `LogFiles`: files, links, pipes, rotation, and news of changes with and without the kernel's help."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from inotify_simple import Event, flags

from pvc.core.runtime import Signal
from pvc.core.threads import ThreadRuntime
from pvc.plugins.consolelog.files import LogFile, Unfollowable
from pvc.plugins.consolelog.inotify import DirectoryFiles

LOG = logging.getLogger("test")
PATIENCE = 20.0


class Polling(DirectoryFiles):
    """As on a file system that gives no news."""

    def _open_inotify(self) -> None:
        return None


class Kernel:
    """Gives its news in one batch, when told to."""

    def __init__(self) -> None:
        self.watched: list[str] = []
        self._batch: list[Event] = []
        self._ready = os.eventfd(0)

    def tell(self, *batch: Event) -> None:
        self._batch += batch
        os.eventfd_write(self._ready, 1)

    def add_watch(self, path: str, mask: int) -> int:
        self.watched.append(path)
        return len(self.watched)

    def read(self, timeout: float) -> list[Event]:
        os.eventfd_read(self._ready)
        told, self._batch = self._batch, []
        return told

    def fileno(self) -> int:
        return self._ready

    def close(self) -> None:
        os.close(self._ready)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "logs"
    made.mkdir()
    return made


@pytest.fixture
def wake() -> Signal:
    return ThreadRuntime().signal()


@pytest.fixture(params=[DirectoryFiles, Polling])
def files(request: pytest.FixtureRequest, directory: Path, wake: Signal) -> Iterator[DirectoryFiles]:
    made: DirectoryFiles = request.param(str(directory), ThreadRuntime(), wake, lambda: 0.05, LOG)
    yield made
    made.close()


def opened(files: DirectoryFiles, path: Path) -> LogFile:
    file = files.open(str(path))
    assert file is not None
    return file


def test_a_file_is_read_at_any_place(files: DirectoryFiles, directory: Path) -> None:
    (directory / "a.log").write_bytes(b"0123456789")
    file = opened(files, directory / "a.log")
    assert (file.size(), file.read(3, 4), file.read(8, 10)) == (10, b"3456", b"89")
    file.close()


def test_a_deleted_file_can_be_read_to_its_end(files: DirectoryFiles, directory: Path) -> None:
    path = directory / "a.log"
    path.write_bytes(b"one")
    file = opened(files, path)
    path.unlink()
    assert file.read(0, 10) == b"one"
    assert files.inode(str(path)) is None
    assert files.open(str(path)) is None
    file.close()


def test_rotated_files_are_found_newest_first(files: DirectoryFiles, directory: Path) -> None:
    for name in ("a.log.1", "a.log.0", "a.log", "b.log"):
        (directory / name).write_bytes(b"x")
    found = files.rotated(str(directory / "a.log"))
    assert [Path(path).name for path, _ in found] == ["a.log", "a.log.0", "a.log.1"]
    assert found[0][1] == (directory / "a.log").stat().st_ino


def link(directory: Path, path: Path) -> None:
    (directory.parent / "secret").write_text("secret")
    path.symlink_to(directory.parent / "secret")


def pipe(directory: Path, path: Path) -> None:
    os.mkfifo(path)


def folder(directory: Path, path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [link, pipe, folder])
def test_what_is_no_regular_file_is_refused_at_once(
    files: DirectoryFiles, directory: Path, make: Callable[[Path, Path], None]
) -> None:
    path = directory / "a.log"
    make(directory, path)
    with pytest.raises(Unfollowable, match=r"a\.log"):
        files.open(str(path))


@pytest.mark.parametrize("name", ["../outside.log", "away/outside.log", "/etc/hostname", ".."])
def test_what_lies_outside_the_directory_is_refused(files: DirectoryFiles, directory: Path, name: str) -> None:
    (directory.parent / "outside.log").write_text("secret")
    (directory / "away").symlink_to(directory.parent)
    with pytest.raises(Unfollowable, match="outside"):
        files.open(str(directory / name))


def test_files_in_folders_below_the_directory_are_followed(files: DirectoryFiles, directory: Path) -> None:
    (directory / "qemu").mkdir()
    (directory / "qemu" / "a.log").write_bytes(b"x")
    opened(files, directory / "qemu" / "a.log").close()


def write(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def cut(path: Path) -> None:
    os.truncate(path, 1)


def rotate(path: Path) -> None:
    path.rename(f"{path}.0")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("change", [write, cut, rotate, remove])
def test_every_change_is_reported(
    files: DirectoryFiles, directory: Path, wake: Signal, change: Callable[[Path], None]
) -> None:
    path = directory / "a.log"
    path.write_bytes(b"some")
    files.follow(str(path))
    change(path)
    assert wake.wait(PATIENCE)
    assert files.changed() == {str(path)}
    assert files.changed() == frozenset()


def test_a_file_that_comes_late_is_reported(files: DirectoryFiles, directory: Path, wake: Signal) -> None:
    files.follow(str(directory / "late.log"))
    (directory / "late.log").write_bytes(b"x")
    assert wake.wait(PATIENCE)
    assert files.changed() == {str(directory / "late.log")}


def test_a_change_is_reported_once_until_the_file_is_followed_again(
    files: DirectoryFiles, directory: Path, wake: Signal
) -> None:
    path, other = directory / "a.log", directory / "b.log"
    files.follow(str(path))
    write(path)
    assert wake.wait(PATIENCE)
    assert files.changed() == {str(path)}
    write(path)
    files.follow(str(other))
    write(other)
    assert wake.wait(PATIENCE)
    assert files.changed() == {str(other)}
    files.follow(str(path))
    write(path)
    assert wake.wait(PATIENCE)
    assert files.changed() == {str(path)}


def test_a_forgotten_file_is_reported_no_more(files: DirectoryFiles, directory: Path, wake: Signal) -> None:
    path, other = directory / "a.log", directory / "b.log"
    files.follow(str(path))
    files.follow(str(other))
    files.forget(str(path))
    write(path)
    write(other)
    assert wake.wait(PATIENCE)
    assert files.changed() == {str(other)}


@pytest.mark.parametrize("first", [flags.Q_OVERFLOW, flags.IGNORED])
def test_every_directory_whose_watch_is_gone_is_watched_again_also_behind_other_bad_news(
    directory: Path, wake: Signal, first: int
) -> None:
    kernel = Kernel()

    class Told(DirectoryFiles):
        def _open_inotify(self) -> Kernel:
            return kernel

    parents = [directory / "a", directory / "b"]
    for parent in parents:
        parent.mkdir()
    files = Told(str(directory), ThreadRuntime(), wake, lambda: 0.05, LOG)
    try:
        for parent in parents:
            files.follow(str(parent / "vm.log"))
        lost = -1 if first == flags.Q_OVERFLOW else 1
        kernel.tell(Event(lost, first, 0, ""), Event(2, flags.IGNORED, 0, ""))
        assert wake.wait(PATIENCE)
        assert files.changed() == {str(parent / "vm.log") for parent in parents}
        for parent in parents:
            files.follow(str(parent / "vm.log"))
        again = parents[1:] if first == flags.Q_OVERFLOW else parents
        assert kernel.watched == [str(parent) for parent in (*parents, *again)]
    finally:
        files.close()
