"""`pvc node history`, and the closing sentence of an operation that is followed on a terminal."""

from dataclasses import replace

import pytest
import yaml
from rich.console import Console

from pvc.cli.liveview import drawn
from pvc.cli.watching import View
from pvc.core import keys
from pvc.core.coordination import Create
from pvc.core.model import Operation, OperationKind, Outcome, OutcomeState, Phase
from tests.cli.conftest import Keyboard

FLUSH = Operation(id="op1", kind=OperationKind.FLUSH, node="hv1", by="root", requested=0.0, phase=Phase.MOVING)
VMS = {"a": Outcome("vm1", OutcomeState.MOVED, "hv1", "hv2", seconds=4.0)}


@pytest.fixture
def past(keyboard: Keyboard) -> Keyboard:
    """Three operations have ended: the flush of hv1, the one of hv2 without success, the unflush of hv1."""
    keyboard.cluster.define("stuck", "hv2", policy="keep")
    keyboard.cluster.settle()
    keyboard.type("node", "flush", "hv1", "--wait", "--reason", "new fan")
    keyboard.type("node", "flush", "hv2", "--wait")
    keyboard.type("node", "unflush", "hv1", "--wait")
    return keyboard


def test_the_newest_operation_comes_first_with_its_end_and_closing_sentence(past: Keyboard) -> None:
    rows = past.type("node", "history", "--format", "json").rows
    assert [(row["node"], row["kind"], row["ended"]) for row in rows] == [
        ("hv1", "unflush", "done"),
        ("hv2", "flush", "incomplete"),
        ("hv1", "flush", "done"),
    ]
    assert (rows[2]["moved"], rows[2]["of"], rows[2]["reason"]) == (2, 2, "new fan")
    assert rows[2]["message"] == "hv1 is flushed: 2 VMs moved, none left"
    assert rows[2]["seconds"] == rows[2]["finished"] - rows[2]["began"]
    assert [row["vm"] for row in rows[2]["outcomes"]] == ["vm1", "vm4"]
    assert yaml.safe_load(past.type("node", "history", "--format", "yaml").out) == rows
    table = past.type("node", "history").out.splitlines()
    assert len(table) == 4 and table[0].startswith("FINISHED")
    assert table[3].endswith("hv1 is flushed: 2 VMs moved, none left")


def test_only_a_nodes_own_operations_and_only_so_many(past: Keyboard) -> None:
    rows = past.type("node", "history", "hv1", "--format", "json").rows
    assert [row["node"] for row in rows] == ["hv1", "hv1"]
    assert past.type("node", "history", "-n", "2", "--format", "json").rows[1]["node"] == "hv2"
    assert past.type("node", "history", "hv3", "--format", "json").rows == []


def test_one_operation_is_shown_whole_with_what_became_of_each_vm(past: Keyboard) -> None:
    row = past.type("node", "history", "--format", "json").rows[1]
    for words in (("--operation", row["operation"]), ("--operation", row["id"]), ("hv2", "-n", "1")):
        said = past.type("node", "history", *words)
        assert said.code == 0, said
        lines = said.out.splitlines()
        assert any(line.split() == ["operation:", row["operation"]] for line in lines)
        assert any(line.split()[:4] == ["VM", "STATE", "FROM", "TO"] for line in lines)
        assert any("stuck" in line and "its policy is keep" in line for line in lines)
        assert "left: stuck: its policy is keep" in lines[-1]
    whole = past.type("node", "history", "--operation", row["id"], "--format", "json").rows
    assert whole == row


def test_an_id_that_no_operation_has_or_several_have_is_refused(past: Keyboard) -> None:
    none = past.type("node", "history", "--operation", "zzz")
    assert none.code == 1 and "no finished operation has an id that begins with 'zzz'" in none.err
    for _ in range(2):
        past.cluster.client.commit(
            [
                Create(
                    keys.history_prefix(),
                    b'{"id":"zz1","kind":"flush","node":"x","by":"r","requested":1.0}',
                    False,
                    True,
                )
            ]
        )
    many = past.type("node", "history", "--operation", "zz")
    assert many.code == 1 and "2 operations have an id that begins with 'zz'" in many.err


def test_a_node_of_the_past_has_a_history_and_an_unknown_one_is_met_with_the_nearest_names(past: Keyboard) -> None:
    old = b'{"id":"zz1","kind":"flush","node":"old","by":"r","requested":1.0}'
    past.cluster.client.commit([Create(keys.history_prefix(), old, sequence=True)])
    assert past.type("node", "history", "old").code == 0
    said = past.type("node", "history", "hv9")
    assert said.code == 1 and "did you mean hv" in said.err


def test_a_record_that_cannot_be_read_is_reported_and_the_others_are_shown(past: Keyboard) -> None:
    past.cluster.client.commit([Create(keys.history_prefix(), b"junk", sequence=True)])
    said = past.type("node", "history", "--format", "json")
    assert len(said.rows) == 3 and "/history/operation-" in said.err


def test_the_last_line_of_a_wait_is_the_closing_sentence(past: Keyboard) -> None:
    lines = past.type("node", "flush", "hv1", "--wait").out.splitlines()
    assert lines[-1].startswith("flush hv1: ") and lines[-1].endswith(past.cluster.operation("hv1").message)


def screen(operation: Operation, left: float | None) -> list[str]:
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(drawn(View(operation, daemon_alive=True), left))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_terminal_shows_above_the_rows_how_long_it_may_take() -> None:
    lines = screen(replace(FLUSH, outcomes=VMS), 40.4)
    assert lines[0] == "flush hv1: moving, about 40 s left"
    assert lines[-1].startswith("vm1")
    assert screen(replace(FLUSH, outcomes=VMS), None)[0] == "flush hv1: moving"


def test_a_terminal_ends_with_the_closing_sentence() -> None:
    ended = replace(FLUSH, phase=Phase.DONE, message="hv1 is flushed: 1 VM moved, none left", outcomes=VMS)
    assert screen(ended, 0.0)[-1] == "flush hv1: done: hv1 is flushed: 1 VM moved, none left"
