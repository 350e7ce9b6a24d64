"""A flush and an unflush, with a fault at each single call to ZooKeeper that the node's daemon makes on the way.

Another flush waits for the lock, so that a turn that is lost is taken by somebody else. Usually only some calls are
tried, `PVC_EVERY_CALL=1` tries all.
"""

import os
from collections.abc import Sequence
from functools import partial

import pytest

from pvc.core.model import FINAL, NodeState, Phase
from pvc.testing.cluster import SimCluster
from pvc.testing.invariants import Invariants
from pvc.testing.steps import Step, Steps

CALLS = 160
"""More calls than the daemons make on the way; a fault that never comes is the plain case."""
STRIDE = 1 if os.environ.get("PVC_EVERY_CALL") == "1" else 17

FAULTS: dict[str, Step] = {
    "its session is lost": {"lose_session": "hv1"},
    "it is killed and restarts": {"restart": "hv1"},
    "the answer is lost": {"lose_answer": {"node": "hv1", "arrived": True}},
    "the write is lost": {"lose_answer": {"node": "hv1", "arrived": False}},
    "its news are lost": {"lose_events": {"node": "hv1", "count": 5}},
    "the target's session is lost": {"lose_session": "hv3"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_flush_and_unflush_survive_a_fault_at_any_call(fault: str) -> None:
    for calls in range(0, CALLS, STRIDE):
        problems = _played({"at_call": {"node": "hv1", "calls": calls, "do": [FAULTS[fault]]}})
        assert not problems, f"{fault} at call {calls}: {problems}"


def _played(fault: Step) -> Sequence[str]:
    """What went wrong."""
    with SimCluster(3, latency=(0.001, 0.001)) as cluster:
        invariants = Invariants(cluster)
        steps = Steps(cluster, lenient=True)
        cluster.start()
        for name, node in (("vm1", "hv1"), ("vm2", "hv1"), ("vm3", "hv2")):
            cluster.define(name, node)
        cluster.settle()
        cluster.run(1.0)
        steps.perform(fault)
        for kind, state in (("flush", NodeState.FLUSHED), ("unflush", NodeState.READY)):
            cluster.ask(kind, "hv1")
            cluster.ask(kind, "hv2")
            for name in ("hv1", "hv2"):
                assert cluster.finish(name).phase in (Phase.DONE, Phase.INCOMPLETE)
                assert cluster.operation(name).phase is Phase.INCOMPLETE or cluster.node(name).state is state
        cluster.run_until(lambda: not invariants.problems_at_rest(), 200.0)
        assert cluster.operation("hv1").phase in FINAL
        return invariants.problems_at_rest()


UNFLUSH_CALLS = 40
"""More calls than the daemon makes before it has ordered its VM home."""


def test_an_unflush_leaves_a_vm_alone_that_is_moved_at_any_call() -> None:
    for calls in range(UNFLUSH_CALLS):
        with SimCluster(3, latency=(0.001, 0.001)) as cluster:
            invariants = Invariants(cluster)
            steps = Steps(cluster, lenient=True)
            cluster.start()
            cluster.define("vm1", "hv1")
            cluster.settle()
            cluster.ask("flush", "hv1")
            cluster.finish("hv1")
            away = cluster.vm("vm1").node
            there = next(name for name in ("hv2", "hv3") if name != away)
            steps.perform({"at_call": {"node": "hv1", "calls": calls, "do": [{"move": {"vm": "vm1", "to": there}}]}})
            cluster.ask("unflush", "hv1")
            cluster.finish("hv1")
            cluster.run_until(partial(_is_where_it_should_be, cluster), 60.0)
            assert invariants.problems() == [], f"at call {calls}"
            moved = cluster.vm("vm1").home is None and cluster.vm("vm1").node != "hv1"
            assert not moved or cluster.where()["vm1"] == there, f"at call {calls}: {cluster.where()}"


def _is_where_it_should_be(cluster: SimCluster) -> bool:
    return cluster.where()["vm1"] == cluster.vm("vm1").node and cluster.vm_runs("vm1")
