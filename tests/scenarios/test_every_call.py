"""A flush and an unflush, with a fault at each single call to ZooKeeper that the node's daemon makes on the way.

Another flush waits for the lock, so that a turn that is lost is taken by somebody else. Usually only some calls are
tried, `PVC_EVERY_CALL=1` tries all.
"""

import os
from collections.abc import Sequence

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
