"""What the documents show works: commands, configuration, Python, the messages that they explain."""

from pathlib import Path
from typing import Any

import pytest

from generator import source
from pvc.core.config.document import parse as parse_yaml
from pvc.core.config.validation import validate
from tests.docs.documents import DOCUMENTS, blocks, names, shell_lines
from tests.docs.typed import Unparsable, parse, programs_in


def _id(value: str) -> str:
    return value if value.endswith(".md") else ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=names(DOCUMENTS))
def test_the_program_accepts_every_command_line_that_is_shown(path: Path) -> None:
    refused = []
    for line in shell_lines(path.read_text()):
        for call in programs_in(line):
            try:
                parse(call)
            except Unparsable as why:
                refused.append(f"{line}: {why}")
    assert refused == []


def test_there_are_command_lines_to_check() -> None:
    calls = [call for path in DOCUMENTS for line in shell_lines(path.read_text()) for call in programs_in(line)]
    assert len(calls) > 60


@pytest.mark.parametrize(
    "line",
    [
        "pvc node flush",
        "pvc node flush hv1 --wiat",
        "pvc node flusch hv1",
        "pvc --zookeper zk1 node list",
        "pvc node",
        "pvc vm log web1 -n many",
        "pvc lab exec -- pvc node flush hv1 --wiat",
        "echo x && .venv/bin/pvc vm strat web1",
        "/opt/pvc/bin/pvcd --confing /etc/pvc/pvc.yaml",
    ],
)
def test_a_wrong_command_line_would_be_noticed(line: str) -> None:
    (call,) = programs_in(line)
    with pytest.raises(Unparsable):
        parse(call)


@pytest.mark.parametrize("where, text", blocks("ini"), ids=_id)
def test_the_daemon_accepts_the_command_line_of_every_unit(where: str, text: str) -> None:
    for line in text.splitlines():
        if line.startswith("ExecStart=/"):  # an empty one takes back those before it
            (call,) = programs_in(line.removeprefix("ExecStart="))
            parse(call)


@pytest.mark.parametrize("where, text", blocks("yaml"), ids=_id)
def test_every_piece_of_configuration_is_valid(where: str, text: str) -> None:
    schemas = {**source.plugin_schemas(), "window": {"hours": {"type": "string"}}}
    validate(parse_yaml(text, where), schemas, (*source.BUILT_IN, "window"), host_name="x")


def test_there_is_configuration_to_check() -> None:
    assert {where for where, _ in blocks("yaml")} >= {"README.md", "docs/installation.md", "docs/plugins.md"}


@pytest.mark.parametrize("where, text", blocks("python"), ids=_id)
def test_every_example_in_python_works(where: str, text: str) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(text, where, "exec"), names)
    for name, function in list(names.items()):
        if name.startswith("test_"):
            function()


def test_the_examples_in_python_contain_a_test() -> None:
    assert any("def test_" in text for _, text in blocks("python"))


MESSAGES = [(where, line) for where, text in blocks("message") for line in text.splitlines()]


@pytest.mark.parametrize("where, message", MESSAGES, ids=[message[:60] for _, message in MESSAGES])
def test_the_product_says_every_message_that_is_explained(where: str, message: str) -> None:
    assert any(message in text for text in source.strings_in("pvc")), f"{where} explains what no code says"


def test_there_are_messages_to_check() -> None:
    assert len(MESSAGES) > 30
