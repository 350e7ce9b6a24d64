"""The transition tables: closed over their enums, and saying what the docstrings promise."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import pytest

from pvc.core.model import FINAL, NODE_MOVES, PHASE_MOVES, NodeState, Phase

TABLES: list[tuple[type[Enum], Mapping[Any, frozenset[Any]]]] = [(NodeState, NODE_MOVES), (Phase, PHASE_MOVES)]


@pytest.mark.parametrize(("states", "table"), TABLES, ids=["node", "phase"])
def test_a_table_knows_every_state_and_only_those(states: type[Enum], table: Mapping[Any, frozenset[Any]]) -> None:
    assert set(table) == set(states)
    assert {target for targets in table.values() for target in targets} <= set(states)


@pytest.mark.parametrize(("states", "table"), TABLES, ids=["node", "phase"])
def test_no_state_leads_to_itself(states: type[Enum], table: Mapping[Any, frozenset[Any]]) -> None:
    assert [state for state in states if state in table[state]] == []


@pytest.mark.parametrize(("first", "table"), [(NodeState.READY, NODE_MOVES), (Phase.QUEUED, PHASE_MOVES)])
def test_every_state_can_be_reached(first: Enum, table: Mapping[Any, frozenset[Any]]) -> None:
    reached, new = {first}, {first}
    while new:
        new = {target for state in new for target in table[state]} - reached
        reached |= new
    assert reached == set(table)


def test_a_final_phase_is_never_left_and_every_other_can_end() -> None:
    assert {phase for phase in Phase if not PHASE_MOVES[phase]} == FINAL
    for phase in set(Phase) - FINAL:
        assert {Phase.CANCELLED, Phase.FAILED} <= PHASE_MOVES[phase]


def test_only_an_operation_that_was_moving_is_done_or_incomplete() -> None:
    for end in (Phase.DONE, Phase.INCOMPLETE):
        assert [phase for phase in Phase if end in PHASE_MOVES[phase]] == [Phase.MOVING]


def test_a_node_is_flushed_only_after_flushing() -> None:
    assert [state for state in NodeState if NodeState.FLUSHED in NODE_MOVES[state]] == [NodeState.FLUSHING]


def test_a_flushed_node_is_not_ready_again_without_an_unflush() -> None:
    assert NodeState.READY not in NODE_MOVES[NodeState.FLUSHED]
