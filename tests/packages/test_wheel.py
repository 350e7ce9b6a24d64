"""The wheel and the source archive: what pip installs, and what it does not."""

import sys
import tarfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from pvc.core.process import Finished, SystemProcesses
from tests.packages.conftest import ROOT

pytestmark = pytest.mark.packages


@pytest.fixture(scope="module")
def bare(python_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and no extra."""
    home = tmp_path_factory.mktemp("venv")
    processes = SystemProcesses()
    processes.check([sys.executable, "-m", "venv", str(home)], timeout=120)
    (wheel,) = python_packages.glob("*.whl")
    fetched = ["--find-links", str(python_packages.parent / "tree" / "wheels")]
    install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *fetched, str(wheel)]
    processes.check(install, timeout=300)
    return home


def run(home: Path, program: str, words: Sequence[str]) -> Finished:
    """Run a program of an environment where no configuration is found."""
    environment = {"PVC_CONFIG": str(home / "none.yaml"), "PYTHONPATH": ""}
    return SystemProcesses().run([str(home / "bin" / program), *words], timeout=60, env=environment)


@pytest.mark.parametrize(
    "words, shown",
    [
        (["--help"], "Usage: pvc"),
        (["vm", "log", "--help"], "Usage: pvc vm log"),
        (["config", "check", str(ROOT / "pvc.yaml.example")], "in order; node hv1"),
        (["plugin", "list"], "consolelog"),
        (["--version"], "pvc 0."),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_the_client_works_without_any_extra(bare: Path, words: list[str], shown: str) -> None:
    (bare / "none.yaml").write_text("")
    done = run(bare, "pvc", words)
    assert done.code == 0, done
    assert shown in done.stdout
    notes = ("is off", "no cluster is reached; this is what is installed here")
    assert [line for line in done.stderr.splitlines() if not line.startswith("pvc: ") or not line.endswith(notes)] == []


def test_without_extras_neither_libvirt_nor_inotify_is_installed(bare: Path) -> None:
    named = "('libvirt', 'inotify_simple', 'pyroute2', 'kazoo')"
    code = f"import importlib.util as u; print([n for n in {named} if u.find_spec(n)])"
    assert run(bare, "python", ["-I", "-c", code]).stdout == "['kazoo']\n"


def test_there_is_an_extra_for_each_role_even_where_it_needs_nothing(python_packages: Path) -> None:
    (wheel,) = python_packages.glob("*.whl")
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    extras = metadata.get_all("Provides-Extra", [])
    needs = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" in line]

    def of(extra: str) -> list[str]:
        return [line.partition(">")[0].partition(";")[0].strip() for line in needs if extra in line.partition(";")[2]]

    assert {"hypervisor", "networking", "storage", "consolelog"} <= set(extras)
    assert [of(extra) for extra in ("hypervisor", "networking", "storage", "consolelog")] == [
        ["libvirt-python"],
        ["pyroute2"],
        [],
        ["inotify-simple"],
    ]


def test_the_wheel_has_the_files_of_the_lab_and_no_tests(python_packages: Path) -> None:
    (wheel,) = python_packages.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"pvc/lab/init.sh", "pvc/lab/kernel/init", "pvc/py.typed"} <= names
    assert [name for name in names if name.startswith(("tests/", "docs/", "bench/"))] == []


def test_the_source_archive_has_what_builds_and_tests_it(python_packages: Path) -> None:
    (source,) = python_packages.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = (
        "LICENSE README.md CHANGELOG.md Makefile mkdocs.yml pvc.yaml.example ruff.toml packaging/wheels.txt"
        " packaging/debian/rules examples/pvc-webhook/pyproject.toml"
    )
    assert set(wanted.split()) - names == set()
    assert {"tests/conftest.py", "tests/scenarios/flush-one-node/log.expect", "docs/generate.py"} - names == set()
    assert [name for name in names if "__pycache__" in name or name.startswith((".venv", "build"))] == []
