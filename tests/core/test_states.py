"""The one way a state changes: checked, and logged in the form that scenarios compare."""

import logging

import pytest

from pvc.core.model import NODE_MOVES, NodeState
from pvc.core.states import ImpossibleTransition, move, note

log = logging.getLogger("test.states")


def test_a_transition_is_logged_as_thing_old_new_and_why(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert move(log, "node hv1", NodeState.READY, NodeState.FLUSHING, NODE_MOVES, "asked") is NodeState.FLUSHING
    assert caplog.messages == ["node hv1: ready => flushing (asked)"]


def test_a_transition_that_the_table_lacks_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(ImpossibleTransition, match="node hv1: flushed => ready does not exist"):
        move(log, "node hv1", NodeState.FLUSHED, NodeState.READY, NODE_MOVES, "asked")
    assert caplog.messages == []


def test_staying_is_no_transition() -> None:
    with pytest.raises(ImpossibleTransition):
        move(log, "node hv1", NodeState.READY, NodeState.READY, NODE_MOVES, "asked")


def test_a_note_has_the_same_form(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    note(log, "vm a", "stopped", "starting", "why")
    assert caplog.messages == ["vm a: stopped => starting (why)"]
