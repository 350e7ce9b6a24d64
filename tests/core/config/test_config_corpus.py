"""Wrong configurations, one file each in corpus/, and everything that is said of them.

`NAME.yaml`, or a directory with pvc.yaml and conf.d, is read as `pvc config check` does; `NAME.expect` is the answer.
`PVC_ACCEPT_CORPUS=1 pytest tests/core/config/test_config_corpus.py` rewrites the answers: read the difference.
"""

import os
import re
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pvc.core.config.document import DEEPEST, LARGEST_FILE, MOST_VALUES
from pvc.core.config.layers import collect
from pvc.core.config.problems import ConfigError
from pvc.core.config.settings import Config
from pvc.core.config.switches import enabled_plugins
from pvc.core.config.validation import validate
from pvc.core.process import SystemProcesses
from pvc.plugins.consolelog import schema as consolelog
from pvc.plugins.flushlock import schema as flushlock
from pvc.plugins.hypervisor import schema as hypervisor

CORPUS = Path(__file__).parent / "corpus"
CASES = sorted([path for path in CORPUS.iterdir() if path.suffix == ".yaml" or path.is_dir()])
LONGEST_LINE = 1000
MOST_MEMORY = 64 << 20
"""Bytes that checking any file may take: what the largest allowed file needs, with room to spare."""

GOLD: Mapping[str, Any] = {
    "uri": {"type": "string", "required": True, "meta": {"help": "Where the gold is."}},
    "token": {"meta": {"help": "What opens it.", "secret": True}},
    "rooms": {
        "type": "list",
        "default": [],
        "schema": {
            "type": "dict",
            "schema": {
                "name": {"type": "string", "required": True},
                "size": {"type": "integer", "min": 1, "default": 1},
            },
        },
    },
}
SCHEMAS = {
    "hypervisor": hypervisor.SCHEMA,
    "flushlock": flushlock.SCHEMA,
    "consolelog": consolelog.SCHEMA,
    "gold": GOLD,
}


def check(path: Path) -> Config:
    """Read a file and what is beside it, with the plugins of SCHEMAS installed."""
    document = collect(str(path), {})
    on = enabled_plugins(document, list(SCHEMAS))
    return validate(document, {name: SCHEMAS[name] for name in on}, list(SCHEMAS), host_name="hv1")


def answer(path: Path) -> str:
    """What is said of a wrong file, with its directory left out."""
    with pytest.raises(ConfigError) as caught:
        check(path)
    return f"{caught.value}\n".replace(f"{path.parent}/", "")


def expected(case: Path) -> Path:
    return CORPUS / f"{case.stem if case.suffix == '.yaml' else case.name}.expect"


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_everything_that_is_wrong_is_told_with_its_place(case: Path) -> None:
    told = answer(case / "pvc.yaml" if case.is_dir() else case)
    if os.environ.get("PVC_ACCEPT_CORPUS") == "1":
        expected(case).write_text(told, newline="")
    assert told == expected(case).read_bytes().decode()


@pytest.mark.parametrize("case", CASES, ids=[case.stem for case in CASES])
def test_every_answer_has_a_place_and_says_what_is_allowed_or_what_to_do(case: Path) -> None:
    lines = expected(case).read_bytes().decode().splitlines()
    assert lines
    for line in lines:
        assert re.match(r"[\w./-]+\.yaml(:[0-9]+)?: \S", line), line
        assert "; " in line, f"nothing says what is allowed or what to do: {line}"
        assert len(line) <= LONGEST_LINE and line.isprintable() and "hunter2" not in line, line


def test_every_answer_belongs_to_a_case_and_there_are_enough() -> None:
    assert {expected(case) for case in CASES} == set(CORPUS.glob("*.expect"))
    assert len(CASES) >= 100


def test_the_program_says_the_same_and_fails_without_a_traceback() -> None:
    code = (
        "import sys\nfrom pvc.cli.main import main\n"
        "for path in sys.argv[1:]:\n"
        "    sys.argv = ['pvc', 'config', 'check', path]\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        print(end.code)\n"
    )
    cases = [str(case / "pvc.yaml" if case.is_dir() else case) for case in CASES[::4]]
    done = SystemProcesses().run([sys.executable, "-c", code, *cases], timeout=300, env={"PVC_CONFIG": "/dev/null"})
    assert set(done.stdout.split()) == {"1"} and len(done.stdout.split()) == len(cases), done
    assert "Traceback" not in done.stderr


class TestFilesThatAreNotKept:
    """Too large for the repository, or not files at all."""

    @pytest.fixture
    def bounded(self) -> Any:
        tracemalloc.start()
        yield
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MOST_MEMORY

    def told(self, path: Path, content: str | bytes) -> str:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return answer(path)

    @pytest.mark.usefixtures("bounded")
    def test_a_file_that_is_too_large(self, tmp_path: Path) -> None:
        file = tmp_path / "pvc.yaml"
        assert "larger than" in self.told(file, b"#" * (LARGEST_FILE + 1))
        assert "larger than" in self.told(file, b"a" * (50 << 20))

    @pytest.mark.parametrize(
        "content",
        [
            "a: " + "[" * (LARGEST_FILE - 10),
            "a: " + "{a: " * (LARGEST_FILE // 4 - 10),
            "- " * (LARGEST_FILE // 2 - 10),
            "? " * (LARGEST_FILE // 2 - 10),
        ],
        ids=["brackets", "braces", "dashes", "question marks"],
    )
    @pytest.mark.usefixtures("bounded")
    def test_a_file_of_openings(self, tmp_path: Path, content: str) -> None:
        assert f"nested deeper than {DEEPEST} levels" in self.told(tmp_path / "pvc.yaml", content)

    @pytest.mark.parametrize(
        "content",
        ["a: [" + "1," * (LARGEST_FILE // 2 - 10) + "]", "".join(f"k{n}: 1\n" for n in range(MOST_VALUES + 1))],
        ids=["a list", "keys"],
    )
    @pytest.mark.usefixtures("bounded")
    def test_a_file_of_too_many_values(self, tmp_path: Path, content: str) -> None:
        assert f"more than {MOST_VALUES} values" in self.told(tmp_path / "pvc.yaml", content)

    def test_as_many_mistakes_as_fit(self, tmp_path: Path) -> None:
        count = MOST_VALUES // 2 - 10
        told = self.told(tmp_path / "pvc.yaml", "".join(f"key{n}: {n}\n" for n in range(count)))
        assert len(told.splitlines()) == count

    def test_a_single_text_of_the_largest_size(self, tmp_path: Path) -> None:
        told = self.told(tmp_path / "pvc.yaml", "node: " + "x" * (LARGEST_FILE - 10))
        assert len(told) < LONGEST_LINE

    @pytest.mark.usefixtures("bounded")
    @pytest.mark.parametrize("name", ["billion-laughs", "billion-laughs-of-mappings", "very-deep-nesting"])
    def test_a_file_that_stands_for_much_more(self, name: str) -> None:
        assert answer(CORPUS / f"{name}.yaml")

    def test_too_many_values_in_several_files(self, tmp_path: Path) -> None:
        (tmp_path / "conf.d").mkdir()
        for number in range(3):
            keys = "".join(f"key{number}x{n}: 1\n" for n in range(MOST_VALUES // 2 - 10))
            (tmp_path / "conf.d" / f"{number}.yaml").write_text(keys)
        told = self.told(tmp_path / "pvc.yaml", "node: hv1\n")
        assert f"together with the files in conf.d more than {MOST_VALUES} values" in told

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        assert answer(tmp_path).endswith(": cannot be read: Is a directory; check the path and its permissions\n")
        assert "No such file or directory" in answer(tmp_path / "gone.yaml")
        assert "Not a directory" in answer(Path(__file__) / "pvc.yaml")
        assert "File name too long" in answer(tmp_path / ("x" * 300))
        assert "cannot be read" in answer(Path("/proc/self/mem"))
        (tmp_path / "circle.yaml").symlink_to(tmp_path / "circle.yaml")
        assert "Too many levels of symbolic links" in answer(tmp_path / "circle.yaml")
