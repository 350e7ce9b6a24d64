"""The same tests on the fake directories and on the machine's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pvc.core.threads import ThreadRuntime
from pvc.plugins.storage.directories import Directories, DirectoryUnusable
from pvc.plugins.storage.filesystem import SystemDirectories, _unescaped
from pvc.testing.directories import FakeDirectories

Made = tuple[Directories, str]


def fake(tmp_path: Path) -> Made:
    directories = FakeDirectories(ThreadRuntime())
    directories.add(str(tmp_path), mounted=False)
    directories.add("/proc", total=0, free=0)
    directories.spoil(str(tmp_path / "file"), "is no directory")
    return directories, str(tmp_path)


def real(tmp_path: Path) -> Made:
    (tmp_path / "file").write_text("x")
    return SystemDirectories(), str(tmp_path)


@pytest.fixture(params=[fake, real])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    make: Callable[[Path], Made] = request.param
    return make(tmp_path)


def test_a_directory_has_its_room(made: Made) -> None:
    directories, path = made
    look = directories.look(path)
    assert 0 < look.free <= look.total
    assert not look.mounted


def test_a_mount_point_is_told_from_a_directory_in_one(made: Made) -> None:
    directories, path = made
    assert directories.look("/proc").mounted
    assert not directories.look(path).mounted


@pytest.mark.parametrize(("name", "why"), [("absent", "does not exist"), ("file", "is no directory")])
def test_what_cannot_be_used_says_why(made: Made, name: str, why: str) -> None:
    directories, path = made
    with pytest.raises(DirectoryUnusable, match=f"^{why}$"):
        directories.look(f"{path}/{name}")


def test_mount_points_with_odd_names_are_read() -> None:
    assert _unescaped(r"/mnt/with\040space\134and\011tab") == "/mnt/with space\\and\ttab"
