"""The architecture and the decision records against the code."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import pytest

from pvc.core.coordination import Create, Op
from pvc.core.model import NODE_MOVES, PHASE_MOVES
from pvc.testing.cluster import SimCluster
from tests.docs.documents import DOCS, ROOT, blocks, names

RECORDS = sorted((DOCS / "decisions").glob("0*.md"))
LARGEST_DECISION = 3500
"""Characters of a decision record: about half a page, two at the outside."""


def architecture() -> str:
    return (DOCS / "architecture.md").read_text()


def test_every_name_behind_a_file_is_in_that_file() -> None:
    missing = [
        f"{name} in {file}"
        for file, inside in re.findall(r"`(pvc/[\w/]+\.py)`\s+\(((?:`[^`]+`(?:,\s+)?)+)\)", architecture())
        for name in re.findall(r"`([^`]+)`", inside)
        if not re.search(rf"\b{re.escape(name.rpartition('.')[2])}\b", (ROOT / file).read_text())
    ]
    assert missing == []


@pytest.mark.parametrize("column, table", [("node", NODE_MOVES), ("operation", PHASE_MOVES)])
def test_the_state_machines_are_those_of_the_model(column: str, table: Mapping[Enum, frozenset[Enum]]) -> None:
    rows = architecture().partition(f"| {column} | may become | means |\n")[2].partition("\n\n")[0]
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


@pytest.mark.parametrize("path", RECORDS, ids=names(RECORDS))
def test_a_decision_has_a_number_a_context_a_decision_and_a_consequence(path: Path) -> None:
    text = path.read_text()
    assert text.startswith(f"# {int(path.name[:4])}. ")
    assert re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Context", "Decision", "Consequence"]
    assert len(text) < LARGEST_DECISION


def test_the_licence_is_the_one_that_the_package_names() -> None:
    assert "license = GPL-3.0-or-later" in (ROOT / "setup.cfg").read_text()
    assert "GNU GENERAL PUBLIC LICENSE\n                       Version 3" in (ROOT / "LICENSE").read_text()
