"""The manual pages: complete, and sound to mandoc's linter."""

import re
from pathlib import Path

import pytest

from generate import write
from generator import source, surroundings
from generator.commands import commands, daemon
from generator.man import man_pages
from generator.pages import programs
from generator.roff import prose
from pvc.core.process import SystemProcesses

PAGES = ("pvc.1", "pvcd.8", "pvc.yaml.5")


def _shown(directory: Path, page: str) -> str:
    """A page as it is read, on one line, without bold."""
    done = SystemProcesses().run(["mandoc", "-T", "ascii", "-O", "width=500", str(directory / page)], timeout=30)
    assert done.code == 0, done.stderr
    return " ".join(re.sub(r".\x08", "", done.stdout).split())


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("man")
    write(found, man_pages())
    return found


def test_there_is_a_page_for_each_program_and_for_the_configuration() -> None:
    assert man_pages().keys() == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_linter_finds_nothing(page: str, directory: Path) -> None:
    done = SystemProcesses().run(["mandoc", "-T", "lint", "-W", "warning", str(directory / page)], timeout=30)
    found = [line for line in done.stdout.splitlines() if "missing date" not in line]  # left out: see roff.title
    assert (found, done.stderr) == ([], "")


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    write(tmp_path, {"x.7": '.TH X 7 ""\n.SH NAME\nx \\- y\n.SH TEXT\n.RE\n.nonsense\n'})
    done = SystemProcesses().run(["mandoc", "-T", "lint", "-W", "warning", str(tmp_path / "x.7")], timeout=30)
    assert "nonsense" in done.stdout


def test_every_command_argument_and_option_is_in_the_manual(directory: Path) -> None:
    text = _shown(directory, "pvc.1")
    for command in commands():
        if not command.is_group:
            start = text.index(f" {command.usage} {command.help.split()[0]} ")
            rest = text[start : start + 6000]
            assert all(f" {name}" in rest for each in command.parameters for name in each.names), command.path


def test_every_option_of_the_daemon_is_in_its_manual(directory: Path) -> None:
    text = _shown(directory, "pvcd.8")
    assert all(name in text for option in daemon().options for name in option.names)


def test_every_key_of_the_configuration_is_in_the_manual_with_its_default(directory: Path) -> None:
    text = _shown(directory, "pvc.yaml.5")
    missing = [
        entry.path
        for entry in source.settings()
        if not re.search(rf" {re.escape(entry.path)} .*?Default: {re.escape(source.default_text(entry))}\.", text)
    ]
    assert missing == []


@pytest.mark.parametrize("program, page", [("pvc", "pvc.1"), ("pvcd", "pvcd.8")])
def test_every_exit_code_is_in_the_manual(program: str, page: str, directory: Path) -> None:
    text = _shown(directory, page).partition("EXIT STATUS")[2].partition("ENVIRONMENT")[0]
    codes = source.exit_codes(programs()[program]).values()
    assert all(f" {code} {' '.join(doc.replace('`', '').split())}" in text for code, doc in codes)


def test_every_environment_variable_and_file_is_in_a_manual(directory: Path) -> None:
    text = _shown(directory, "pvc.1") + _shown(directory, "pvcd.8")
    expected = [*surroundings.ENVIRONMENT, *surroundings.ALIEN_ENVIRONMENT, *surroundings.FILES]
    assert [name for name in expected if name not in text] == []


@pytest.mark.parametrize(
    "text",
    [
        ".a line that begins with a dot",
        "'quoted' at the beginning",
        "a \\ backslash, a `--long-option` and a ~ and ^ and `it's`",
        "`$PAGER`, `{address}` and `<vcpu>`",
    ],
)
def test_text_comes_out_as_it_went_in(text: str, tmp_path: Path) -> None:
    write(tmp_path, {"x.7": f'.TH X 7 ""\n.SH NAME\nx \\- y\n.SH TEXT\n.PP\n{prose(text)}\n'})
    assert f"TEXT {text.replace('`', '')} " in _shown(tmp_path, "x.7")
