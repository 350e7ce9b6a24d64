"""The documents against the code: what they name exists, what they list is complete, what they show works."""

import importlib.util
import inspect
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pvc.core.config.document import parse
from pvc.core.config.validation import validate
from pvc.core.coordination import Create, Op
from pvc.core.hookspecs import Hooks
from pvc.core.model import NODE_MOVES, PHASE_MOVES
from pvc.testing.cluster import SimCluster

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
SOURCES = sorted([*(ROOT / "pvc").rglob("*.py"), ROOT / "pvc.yaml.example"])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIRECTORIES = r"(?:pvc|tests|docs|bench|packaging|examples)"
LARGEST_DECISION = 3500
"""Characters of a decision record: about half a page, two at the outside."""


def names(paths: Sequence[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(kind: str) -> list[tuple[str, str]]:
    """The fenced blocks of one kind in all documents, each with its document."""
    return [
        (str(path.relative_to(ROOT)), body)
        for path in DOCUMENTS
        for found, body in BLOCK.findall(path.read_text())
        if found == kind
    ]


@pytest.fixture(scope="module")
def commands() -> dict[str, str]:
    found: dict[str, str] = generator().commands()
    return found


def test_the_reference_is_what_the_source_says() -> None:
    written = (ROOT / "docs" / "reference.md").read_text()
    assert written == generator().text(), "run `python docs/generate.py`"


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    named = re.findall(rf"(?<![\w/.:-])({DIRECTORIES}/[\w./-]*\w)", path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_link_within_the_documents_leads_somewhere(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        target, _, anchor = link.partition("#")
        if "://" in link:
            continue
        file = path.parent / target if target else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(link)
    assert broken == []


def anchors(path: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_name_behind_a_file_in_the_architecture_is_in_that_file() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    missing = [
        f"{name} in {file}"
        for file, inside in re.findall(r"`(pvc/[\w/]+\.py)`\s+\(((?:`[^`]+`(?:,\s+)?)+)\)", text)
        for name in re.findall(r"`([^`]+)`", inside)
        if not re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", (ROOT / file).read_text())
    ]
    assert missing == []


def mentioned(text: str) -> list[str]:
    """Commands in a text: `pvc ...` at the start of a piece of code, or of a line that is indented as code."""
    code = re.findall(r"`(pvc [^`\n]+)`", text)
    code += re.findall(r"^(?: {4,}|\$ )(?:\.venv/bin/|/opt/pvc/bin/)?(pvc .*)$", text, re.MULTILINE)
    return [line for line in code if not line.startswith(("pvc = ", "pvc -", "pvc {"))]


def unknown(text: str, commands: Mapping[str, str]) -> list[str]:
    """What is mentioned and is neither a command nor a group of commands."""
    groups = {" ".join(command.split()[:2]) for command in commands}
    found = []
    for line in mentioned(text):
        words = re.sub(r"[|{]|\.\.\.", " ", line).split()
        is_group = len(words) == 2 and " ".join(words) in groups
        if not is_group and not {" ".join(words[:2]), " ".join(words[:3])} & commands.keys():
            found.append(line)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_command_that_a_document_mentions_exists(path: Path, commands: Mapping[str, str]) -> None:
    assert unknown(path.read_text(), commands) == []


def test_every_command_that_a_message_or_comment_mentions_exists(commands: Mapping[str, str]) -> None:
    found = {str(path.relative_to(ROOT)): unknown(path.read_text(), commands) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_option_that_the_guides_use_exists() -> None:
    helps = generator().options()
    wrong = []
    for path in DOCUMENTS:
        for line in mentioned(path.read_text()):
            line = line.partition(" -- ")[0].partition(" #")[0].partition(" && ")[0]
            words = line.split()
            command = next((c for c in (" ".join(words[:3]), " ".join(words[:2])) if c in helps), None)
            used = [word.rstrip(",") for word in words if re.fullmatch(r"--?[a-z][\w-]*,?", word)]
            wrong += [f"{line}: {option}" for option in used if command and option not in helps[command]]
    assert wrong == []


def test_every_hook_is_documented_with_its_exact_parameters() -> None:
    text = (ROOT / "docs" / "plugins.md").read_text()
    hooks = {name: function for name, function in vars(Hooks).items() if name.startswith("pvc_")}
    headings = re.findall(r"^### `(pvc_.*)`$", text, re.MULTILINE)
    assert headings == [f"{name}{_signature(function)}" for name, function in hooks.items()]


def _signature(function: Any) -> str:
    """The signature as it is written in the source."""
    source = inspect.getsource(function)
    found = re.search(r"def \w+(\(.*?\) -> .*?):\n", source, re.DOTALL)
    assert found is not None
    return " ".join(found[1].split())


def test_every_exit_code_is_explained_to_administrators() -> None:
    text = (ROOT / "docs" / "admin.md").read_text()
    table = text.partition("### Exit codes")[2].partition("###")[0]
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    module = generator()
    assert explained == {0, *(code for code, _ in module.exit_codes(module.exits).values())}


@pytest.mark.parametrize("where, text", blocks("yaml"), ids=lambda value: value if value.endswith(".md") else "")
def test_every_piece_of_configuration_is_valid(where: str, text: str) -> None:
    schemas = {**generator().plugin_schemas(), "window": {"hours": {"type": "string"}}}
    validate(parse(text, where), schemas, (*generator().BUILT_IN, "window"), host_name="x")


def test_there_is_configuration_to_check() -> None:
    assert {where for where, _ in blocks("yaml")} >= {"README.md", "docs/plugins.md"}


@pytest.mark.parametrize("where, text", blocks("python"), ids=lambda value: value if value.endswith(".md") else "")
def test_every_example_in_python_works(where: str, text: str) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, where, "exec"), names)
    for name, function in list(names.items()):
        if name.startswith("test_"):
            function()


def test_the_examples_in_python_contain_a_test() -> None:
    assert any("def test_" in text for _, text in blocks("python"))


@pytest.mark.parametrize("column, table", [("node", NODE_MOVES), ("operation", PHASE_MOVES)])
def test_the_state_machines_are_those_of_the_model(column: str, table: Mapping[Enum, frozenset[Enum]]) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = text.partition(f"| {column} | may become | means |\n")[2].partition("\n\n")[0]
    shown = {
        state: set(re.findall(r"\w+", targets))
        for state, targets in re.findall(r"^\| (\w+) \| ([^|]*) \|", rows, re.MULTILINE)
    }
    assert shown == {state.value: {target.value for target in targets} for state, targets in table.items()}


def test_a_flush_commits_the_transactions_that_the_architecture_lists() -> None:
    committed: list[str] = []
    with SimCluster(3) as cluster:
        cluster.start()
        vm = cluster.define("vm1", "hv1")
        cluster.settle()
        cluster.ask("flush", "hv3")  # the queue is made by whoever comes first
        cluster.finish("hv3")
        cluster.run(30.0)

        def note(session: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
            transaction = f"{session.partition('/')[0]} {'; '.join(_shown(op, vm.uuid) for op in ops)}"
            if "/facts" not in transaction and not transaction.endswith(" Put /nodes/hv1/vms/U"):
                committed.append(transaction)

        cluster.on_commit(note)
        cluster.ask("flush", "hv1")
        cluster.finish("hv1")
        cluster.run(5.0)
    listed = [line.partition(" ")[2] for _, body in blocks("transactions") for line in body.splitlines()]
    assert committed == listed


def _shown(op: Op, uuid: str) -> str:
    path = op.path if isinstance(op, Create) else re.sub(r"ticket-\d+", "ticket-N", op.path)
    return f"{type(op).__name__} {path.replace(uuid, 'U')}"


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "docs" / "decisions").glob("*.md")),
    ids=names(sorted((ROOT / "docs" / "decisions").glob("*.md"))),
)
def test_a_decision_has_a_number_a_context_a_decision_and_a_consequence(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]
    assert len(text) < LARGEST_DECISION


def test_the_licence_is_the_one_that_the_package_names() -> None:
    assert "license = GPL-3.0-or-later" in (ROOT / "setup.cfg").read_text()
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in (ROOT / "LICENSE").read_text()
