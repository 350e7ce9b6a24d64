"""What is built once for all tests of packages."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from tests.packages.debian import Debian

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which the packages were built, as `make deb` does it; they lie in its `out`."""
    assert os.geteuid() == 0, "these tests install packages in a file system of their own; run them as root"
    work = tmp_path_factory.mktemp("workshop")
    script = ROOT / "packaging" / "build-deb"
    SystemProcesses().check(["sh", str(script), str(work / "out"), str(work / "deb")], timeout=900)
    return work / "deb"


@pytest.fixture(scope="session")
def packages(workshop: Path) -> Path:
    """A directory with the Debian packages."""
    return workshop.parent / "out"


@pytest.fixture(scope="session")
def python_packages(workshop: Path) -> Path:
    """The directory with the source archive and the wheel that the Debian packages were built from."""
    return workshop / "python"


@pytest.fixture(scope="session")
def debian(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A Debian system with both packages installed; tests leave it as they found it."""
    yield from _installed(packages, tmp_path_factory)


@pytest.fixture
def fresh_debian(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debian]:
    """A Debian system for one test that changes it, without the packages."""
    system = _booted(packages, tmp_path_factory)
    yield system
    system.end()


def _installed(packages: Path, factory: pytest.TempPathFactory) -> Iterator[Debian]:
    system = _booted(packages, factory)
    try:
        system.install()
        yield system
    finally:
        system.end()


def _booted(packages: Path, factory: pytest.TempPathFactory) -> Debian:
    shared = factory.mktemp("shared")
    shared.chmod(0o1777)
    for package in packages.glob("*.deb"):
        shutil.copy(package, shared)
    return Debian(factory.mktemp("layers"), shared)
