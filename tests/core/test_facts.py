"""Publishing what the plugins report: only news is written, and only while the name is ours."""

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from pvc.core import keys
from pvc.core.coordination import Create, Disconnected
from pvc.core.facts import SETTLE, FactsPublisher
from pvc.core.model import Finding, NodeFacts, Severity
from pvc.core.records import decode
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeEnsemble
from pvc.testing.runtime import World


class Desk:
    """A publisher and what it is told to publish."""

    def __init__(self) -> None:
        self.world = World()
        self.ensemble = FakeEnsemble(self.world.process("servers"))
        self.session = self.ensemble.connect("hv1")
        self.session.commit([*tree_ops(), Create(keys.node("hv1"))])
        self.gathered: Mapping[str, Any] = {}
        self.findings: list[Finding] = []
        self.registered = True
        self.publisher = FactsPublisher(
            "hv1",
            self.session,
            self.world.process("hv1"),
            logging.getLogger("test"),
            lambda: self.registered,
            lambda: self.gathered,
            lambda: self.findings,
        )

    def published(self) -> NodeFacts | None:
        znode = self.session.get(keys.node_facts("hv1"))
        return None if znode is None else decode(NodeFacts, znode.data, "facts")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_facts_go_to_their_fields_and_everything_else_is_text(desk: Desk) -> None:
    desk.gathered = {"memory": 1024, "vms": {"a": 128}, "colour": "green", "count": 3, "at": 7, "findings": "none"}
    desk.findings = [Finding("x", Severity.CRITICAL, "y")]
    desk.publisher.step()
    facts = desk.published()
    assert facts is not None
    assert (facts.memory, facts.vms, facts.findings) == (1024, {"a": 128}, (Finding("x", Severity.CRITICAL, "y"),))
    assert facts.extra == {"colour": "green", "count": "3", "at": "7", "findings": "none"}
    assert facts.at == desk.world.start


def test_nothing_is_written_until_something_changes(desk: Desk) -> None:
    desk.publisher.step()
    commits = desk.ensemble.commits
    for _ in range(10):
        desk.world.run_for(10)
        desk.publisher.step()
    assert desk.ensemble.commits == commits
    desk.gathered = {"load": 0.5}
    desk.publisher.step()
    assert desk.ensemble.commits == commits + 1
    facts = desk.published()
    assert facts is not None and (facts.load, facts.at) == (0.5, desk.world.start + 100)


def test_nothing_is_written_while_the_name_is_not_ours_and_all_of_it_afterwards(desk: Desk) -> None:
    desk.registered = False
    desk.publisher.step()
    assert desk.published() is None
    desk.registered = True
    desk.publisher.step()
    commits = desk.ensemble.commits
    desk.registered = False
    desk.publisher.step()
    desk.registered = True
    desk.publisher.step()
    assert desk.ensemble.commits == commits + 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_write_whose_fate_is_unknown_is_repeated(desk: Desk, applied: bool) -> None:
    desk.publisher.step()
    desk.gathered = {"load": 0.5}
    desk.session.lose_next_commit(applied=applied)
    with pytest.raises(Disconnected):
        desk.publisher.step()
    desk.publisher.step()
    facts = desk.published()
    assert facts is not None and facts.load == 0.5


def test_facts_that_are_as_before_a_write_whose_answer_was_lost_are_published_again(desk: Desk) -> None:
    desk.gathered = {"memory": 1024}
    desk.publisher.step()
    desk.gathered = {"memory": 1}
    desk.session.lose_next_commit(applied=True)
    with pytest.raises(Disconnected):
        desk.publisher.step()
    desk.gathered = {"memory": 1024}
    desk.publisher.step()
    facts = desk.published()
    assert facts is not None and facts.memory == 1024


def test_what_changes_together_is_published_together(desk: Desk) -> None:
    desk.publisher.step()
    commits = desk.ensemble.commits
    for number in range(5):
        desk.gathered = {"load": float(number + 1)}
        desk.publisher.refresh()
        assert 0 < desk.publisher.step() <= SETTLE
        desk.world.run_for(SETTLE / 10)
    assert desk.ensemble.commits == commits
    desk.world.run_for(SETTLE)
    desk.publisher.step()
    facts = desk.published()
    assert desk.ensemble.commits == commits + 1 and facts is not None and facts.load == 5.0
