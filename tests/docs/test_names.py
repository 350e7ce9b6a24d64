"""What the documents name exists: files, links, commands, keys, paths, variables, codes."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from generator import source, surroundings
from generator.commands import Command, commands, daemon
from generator.pages import programs
from tests.docs.documents import DOCUMENTS, ROOT, blocks, named, names, shell_lines, spans

SOURCES = sorted([*(ROOT / "pvc").rglob("*.py"), ROOT / "pvc.yaml.example"])
DIRECTORIES = r"(?:pvc|tests|docs|bench|packaging|examples)"
EVERY_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
OURS = ("/etc/pvc", "/var/lib/pvc", "/run/pvc")
"""Directories that nobody but pvc uses."""


@pytest.fixture(scope="module")
def known() -> dict[str, Command]:
    return {command.path: command for command in (*commands(), daemon())}


@EVERY_DOCUMENT
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    found = re.findall(rf"(?<![\w/.:-])({DIRECTORIES}/[\w./-]*\w)", path.read_text())
    assert [name for name in found if not (ROOT / name).exists()] == []


@EVERY_DOCUMENT
def test_every_link_within_the_documents_leads_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(link)
    assert broken == []


def _anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def _mentioned(text: str) -> list[str]:
    """Commands in a text, in a sentence or an example; how a command may end is not said there."""
    code = re.findall(r"`(pvc [^`\n]+)`", text)
    code += re.findall(
        r"^(?: {4,}|\$ )?(?:\.venv/bin/|/opt/pvc/bin/)?(pvc [a-z].*)$", "\n".join(shell_lines(text)), re.M
    )
    return [line for line in code if not line.startswith(("pvc = ", "pvc -", "pvc {", "pvc ["))]


def _unknown(text: str, known: Mapping[str, Command]) -> list[str]:
    """What is mentioned and is neither a command nor a group of commands."""
    found = []
    for line in _mentioned(text):
        words = re.sub(r"[|{]|\.\.\.", " ", line).split()
        is_group = len(words) <= 3 and " ".join(words) in known
        leaves = {" ".join(words[:count]) for count in (2, 3, 4)}
        if not is_group and not any(path in known and not known[path].is_group for path in leaves):
            found.append(line)
    return found


@EVERY_DOCUMENT
def test_every_command_that_a_document_mentions_exists(path: Path, known: Mapping[str, Command]) -> None:
    assert _unknown(path.read_text(), known) == []


def test_every_command_that_a_message_or_comment_mentions_exists(known: Mapping[str, Command]) -> None:
    found = {named(path): _unknown(path.read_text(), known) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@EVERY_DOCUMENT
def test_every_option_that_a_document_mentions_exists(path: Path, known: Mapping[str, Command]) -> None:
    wrong = []
    for line in _mentioned(path.read_text()):
        line = line.partition(" -- ")[0].partition(" #")[0].partition(" && ")[0]
        words = line.split()
        command = next((known[c] for c in (" ".join(words[:n]) for n in (4, 3, 2)) if c in known), None)
        used = [word.rstrip(",") for word in words if re.fullmatch(r"--?[a-z][\w-]*,?", word)]
        taken = {name for option in command.options for name in option.names} | {"-h", "--help"} if command else set()
        wrong += [f"{line}: {option}" for option in used if command and option not in taken]
    assert wrong == []


@EVERY_DOCUMENT
def test_every_option_named_by_itself_exists(path: Path, known: Mapping[str, Command]) -> None:
    taken = {name for command in known.values() for option in command.options for name in option.names}
    alien = {"-h", "--help", "--check", "--man", "--strict", "--quiet"}  # Click's; docs/generate.py's; of mkdocs
    used = [found[1] for span in spans(path.read_text()) if (found := re.match(r"(--[a-z][\w-]*)(?=$|[ =])", span))]
    if "docs/generate.py" in path.read_text() or "decisions" in named(path):
        taken |= alien
    assert [option for option in used if option not in taken] == []


@EVERY_DOCUMENT
def test_every_key_of_the_configuration_that_a_document_names_exists(path: Path) -> None:
    keys = {entry.path for entry in source.settings()}
    sections = "|".join({key.partition(".")[0] for key in keys if "." in key})
    named_keys = [
        found[1]
        for span in (*spans(path.read_text()), *shell_lines(path.read_text()))
        for found in re.finditer(rf"(?<![\w./])((?:{sections})\.[a-z_]+(?:\.[a-z_]+)*)(?![\w(/])", span)
        if not found[1].endswith((".py", ".md", ".service"))
    ]
    assert [key for key in named_keys if not any(each == key or each.startswith(f"{key}.") for each in keys)] == []


@EVERY_DOCUMENT
def test_every_path_of_the_tree_that_a_document_names_exists(path: Path) -> None:
    shapes = [re.sub(r"<\w+>", "[^/]+", known) for known, _, _ in source.paths()]
    code = "\n".join([*spans(path.read_text()), *shell_lines(path.read_text())])
    branches = "nodes|vms|names|locks|history"
    found = re.findall(rf"(?<![\w/.-])/?(?:pvc)?/?((?:{branches})/[\w<>/-]+)", code)
    wrong = [name for name in found if not any(re.fullmatch(shape, f"/{name}") for shape in shapes)]
    assert wrong == []


@EVERY_DOCUMENT
def test_every_environment_variable_that_a_document_names_is_read_or_set_by_the_code(path: Path) -> None:
    known = source.environment_variables("pvc") | _variables_of_tests()
    assert set(re.findall(r"(?<!\w)PVC_[A-Z_]+", path.read_text())) - known == set()


def test_every_environment_variable_of_the_code_is_documented() -> None:
    assert source.environment_variables("pvc") == surroundings.ENVIRONMENT.keys()
    assert _variables_of_tests() <= {
        name for path in DOCUMENTS for name in re.findall(r"PVC_[A-Z_]+", path.read_text())
    }


def _variables_of_tests() -> set[str]:
    texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
    pattern = r"""(?:os\.environ(?:\.get\(|\[)|(?=["']PVC_\w+["'] in os\.environ))["'](PVC_[A-Z_]+)["']"""
    return {name for text in texts for name in re.findall(pattern, text)}


def test_every_variable_of_others_that_is_documented_is_read() -> None:
    assert surroundings.ALIEN_ENVIRONMENT.keys() - source.strings_in("pvc") == set()


def test_every_file_that_is_documented_is_named_in_the_code() -> None:
    known = source.strings_in("pvc")
    assert [name for name in surroundings.FILES if name not in known and Path(name).name not in known] == []


@EVERY_DOCUMENT
def test_every_directory_of_ours_that_a_document_names_is_in_the_code_or_the_example(path: Path) -> None:
    others = [ROOT / "pvc.yaml.example", *(each for each in (ROOT / "packaging").rglob("*") if each.is_file())]
    code = "\n".join(
        [*surroundings.FILES, *source.strings_in("pvc"), *(each.read_text(errors="replace") for each in others)]
    )
    found = re.findall(rf"(?<![\w/])((?:{'|'.join(OURS)})(?:/[\w.-]*\w)?)", path.read_text())
    below = tuple(f"{name}/" for name in surroundings.FILES)
    assert [name for name in found if name not in code and not name.startswith(below)] == []


@EVERY_DOCUMENT
def test_every_exit_code_that_a_document_names_exists(path: Path) -> None:
    codes = {code for module in programs().values() for code, _ in source.exit_codes(module).values()}
    found = re.findall(r"\b[Cc]odes?\s+(\d+(?:(?:, | and | or )\d+)*)", path.read_text())
    assert {int(code) for text in found for code in re.findall(r"\d+", text)} - codes == set()


@EVERY_DOCUMENT
def test_every_target_of_make_that_a_document_names_exists(path: Path) -> None:
    targets = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = [*spans(path.read_text()), *shell_lines(path.read_text())]
    used = [found[1] for text in code if (found := re.match(r"make ([a-z][\w-]*)", text))]
    assert [target for target in used if target not in targets] == []


def test_no_block_is_of_a_kind_that_nothing_checks() -> None:
    kinds = {kind for path in DOCUMENTS for kind in re.findall(r"^```(\w*)$", path.read_text(), re.MULTILINE)} - {""}
    assert kinds <= {"console", "sh", "text", "yaml", "ini", "python", "message", "transactions", "json", "xml"}
    assert blocks("console") and blocks("sh")
