"""Third-party distributions in a virtual environment of their own, beside pvc as a user installs it."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pvc.cli.skeleton import write_skeleton
from pvc.core.process import Finished, SystemProcesses

pytestmark = pytest.mark.packages

ROOT = Path(__file__).parents[2]
SOURCES = ("pvc", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PATIENCE = 600.0
"""Seconds for one program: installing builds three distributions."""
CONFIG = """
plugins: {webhook: true, beacon: true, consolelog: false}
webhook: {windows: ["Tue 22:00-23:00"]}
"""


@dataclass
class Environment:
    """A virtual environment with pvc, the example and a new skeleton."""

    directory: Path
    example: Path
    skeleton: Path

    def run(self, program: str, *words: str) -> Finished:
        """Run one of its programs."""
        env = {"PVC_CONFIG": str(self.directory / "pvc.yaml"), "PYTHONDONTWRITEBYTECODE": "1"}
        return SystemProcesses().run([str(self.directory / "bin" / program), *words], timeout=PATIENCE, env=env)

    def check(self, program: str, *words: str) -> str:
        """The same; it must end well."""
        done = self.run(program, *words)
        assert done.code == 0, f"{program} {' '.join(words)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    place = tmp_path_factory.mktemp("fresh")
    source = place / "pvc"
    source.mkdir()
    for name in SOURCES:
        here = ROOT / name
        if here.is_dir():
            shutil.copytree(here, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(here, source / name)
    example = shutil.copytree(
        ROOT / "examples" / "pvc-webhook",
        place / "pvc-webhook",
        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"),
    )
    skeleton = write_skeleton("beacon", place / "pvc-beacon")
    SystemProcesses().check([sys.executable, "-m", "venv", str(place / "venv")], timeout=PATIENCE)
    environment = Environment(place / "venv", example, skeleton)
    (environment.directory / "pvc.yaml").write_text(CONFIG)
    environment.check("pip", "install", "--quiet", f"{source}[testing]", str(example), str(skeleton))
    return environment


def test_pvc_itself_is_the_one_that_was_installed(fresh: Environment) -> None:
    where = fresh.check("python", "-I", "-c", "import pvc; print(pvc.__file__)")
    assert Path(where.strip()).is_relative_to(fresh.directory)


@pytest.mark.parametrize("which", ["example", "skeleton"])
def test_its_own_tests_pass_there(fresh: Environment, which: str) -> None:
    directory: Path = getattr(fresh, which)
    out = fresh.check("pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(directory))
    assert "passed" in out
    assert "failed" not in out


def test_both_are_listed_with_their_distribution_and_their_commands_are_there(fresh: Environment) -> None:
    rows: dict[str, Any] = {
        row["name"]: row for row in json.loads(fresh.check("pvc", "plugin", "list", "--format=json"))
    }
    assert {name: (rows[name]["distribution"], rows[name]["state"]) for name in ("webhook", "beacon")} == {
        "webhook": ("pvc-webhook", "loaded"),
        "beacon": ("pvc-beacon", "loaded"),
    }
    assert "Show the maintenance windows" in fresh.check("pvc", "window", "show", "-h")
    assert "Show how many VMs" in fresh.check("pvc", "beacon", "list", "-h")
    assert "in order" in fresh.check("pvc", "config", "check")


@pytest.mark.parametrize("which", ["example", "skeleton"])
def test_its_source_is_clean_and_typed(fresh: Environment, which: str) -> None:
    directory: Path = getattr(fresh, which)
    tools = Path(sys.executable).parent
    source = [str(directory / "src"), str(directory / "tests")]
    for command in (
        [str(tools / "ruff"), "check", "--no-cache", *source],
        [str(tools / "ruff"), "format", "--no-cache", "--check", *source],
        [
            str(tools / "mypy"),
            f"--config-file={directory / 'pyproject.toml'}",
            f"--python-executable={fresh.directory / 'bin' / 'python'}",
            "--cache-dir=/dev/null",
            *source,
        ],
    ):
        done = SystemProcesses().run(["env", f"--chdir={directory}", *command], timeout=PATIENCE)
        assert done.code == 0, done.stdout + done.stderr


def test_without_what_the_fixtures_need_pytest_works_as_ever_and_says_what_to_install(
    fresh: Environment, tmp_path: Path
) -> None:
    tests = tmp_path / "test_other.py"
    tests.write_text(
        "import sys\n"
        "def test_nothing_of_pvc_is_loaded_but_the_fixtures():\n"
        "    loaded = [name for name in sys.modules if name.startswith('pvc')]\n"
        "    assert loaded == ['pvc', 'pvc.testing', 'pvc.testing.pytest_plugin']\n"
        "    assert 'greenlet' not in sys.modules and 'hypothesis' not in sys.modules\n"
    )
    hidden = ["-p", "no:hypothesispytest", "-p", "no:cacheprovider"]
    assert "1 passed" in fresh.check("pytest", "-q", *hidden, str(tests))
    tests.write_text("def test_a_cluster(pvc_cluster):\n    pvc_cluster(1)\n")
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['greenlet'] = None\n")
    done = fresh.run("pytest", "-q", *hidden, str(tests))
    assert done.code == 1
    assert "pip install 'pvc[testing]'" in done.stdout
