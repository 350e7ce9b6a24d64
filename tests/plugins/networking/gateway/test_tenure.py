"""Which routers a node lets pass frames, and for how long: its gateways', and those that it has made ready."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pvc.core.coordination import Put
from pvc.core.records import decode, encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.records import Gateway, Network, NetworkKind
from pvc.plugins.networking.requests import add
from pvc.testing.cluster import SESSION_TIMEOUT, SimCluster
from pvc.testing.routers import FakeRouters
from pvc.testing.steps import Steps

LAN = Network("lan", NetworkKind.MANAGED, ipv4="10.1.0.0/24", ipv4_gateway="10.1.0.1")
BETWEEN_PROOFS = 0.2 * SESSION_TIMEOUT
PASSING = 0.7 * SESSION_TIMEOUT


@pytest.fixture
def cluster() -> Iterator[SimCluster]:
    """Three nodes, and a network whose gateway is on hv1."""
    with SimCluster(
        {f"hv{n}": {"address": f"10.0.0.{n}", "roles": {"networking": True}} for n in (1, 2, 3)}
    ) as cluster:
        cluster.start()
        add(cluster.client, LAN)
        assert cluster.run_until(lambda: cluster.gateways.acting("lan") == ["hv1"], 30)
        yield cluster


@pytest.fixture
def prepared(cluster: SimCluster) -> SimCluster:
    """The same with hv2 asked and ready, while hv1 hears nothing of it and so stays the gateway."""
    cluster.nodes["hv1"].sessions[0].lose_events(1000)
    ask_for(cluster, "hv2")
    assert cluster.run_until(lambda: cluster.client.get(keys.gateway_ready("lan")) is not None, 5)
    return cluster


def ask_for(cluster: SimCluster, node: str | None) -> None:
    """Ask that node to make the gateway ready, or none any more."""
    path = keys.gateway("lan")
    znode = cluster.client.get(path)
    assert znode is not None
    cluster.client.commit([Put(path, encode(replace(decode(Gateway, znode.data, path), next=node)))])


def routers(cluster: SimCluster, node: str) -> FakeRouters:
    return cluster.nodes[node].routers


def held(cluster: SimCluster, node: str) -> bool:
    state = routers(cluster, node).look().get("lan")
    return state is not None and state.held


def calls_before_it_begins(cluster: SimCluster, node: str) -> tuple[int, int]:
    """How often the node had routers held before it drew the ticket, and before frames passed."""
    calls, drawn = routers(cluster, node).held, list[int]()
    session = cluster.nodes[node].sessions[0].session_id

    def note(*_: object) -> None:
        ticket = cluster.client.get(keys.gateway_ticket("lan"))
        if not drawn and ticket and ticket.owner == session:
            drawn.append(len(calls))

    cluster.on_commit(note)
    cluster.ask("flush", "hv1")
    assert cluster.run_until(lambda: cluster.gateways.acting("lan") == [node], 60)
    return drawn[0], len(calls)


def test_a_router_that_is_made_ready_is_held_before_its_node_says_so_and_lets_nothing_pass(
    prepared: SimCluster,
) -> None:
    assert held(prepared, "hv2")
    assert prepared.gateways.acting("lan") == ["hv1"]
    assert not prepared.gateways.twice


def test_a_gateway_that_was_made_ready_begins_without_another_call(cluster: SimCluster) -> None:
    drawn, passing = calls_before_it_begins(cluster, "hv2")
    assert drawn == passing > 0


def test_what_is_left_of_a_hold_must_be_enough_to_begin_with(cluster: SimCluster) -> None:
    cluster.nodes["hv2"].sessions[0].latency = lambda: 0.18 * SESSION_TIMEOUT
    drawn, passing = calls_before_it_begins(cluster, "hv2")
    assert passing == drawn + 1


def test_a_router_that_stays_ready_stays_held_by_new_proofs(prepared: SimCluster) -> None:
    prepared.run(PASSING + 2 * BETWEEN_PROOFS)
    assert held(prepared, "hv2") and prepared.gateways.acting("lan") == ["hv1"]
    assert {seconds <= PASSING for _, seconds in routers(prepared, "hv2").held} == {True}


def test_a_router_that_is_ready_is_held_no_longer_when_its_node_is_cut_off(prepared: SimCluster) -> None:
    prepared.nodes["hv2"].sessions[0].suspend()
    assert prepared.run_until(lambda: not held(prepared, "hv2"), PASSING)


def test_a_router_that_is_ready_is_held_no_longer_when_the_session_is_another(prepared: SimCluster) -> None:
    prepared.nodes["hv2"].sessions[0].expire()
    assert prepared.run_until(lambda: not held(prepared, "hv2"), 1.0)


def test_a_router_that_is_not_asked_for_any_more_is_held_until_the_next_proof_at_most(prepared: SimCluster) -> None:
    ask_for(prepared, None)
    assert prepared.run_until(lambda: "lan" not in routers(prepared, "hv2").routers, 5)
    assert prepared.run_until(lambda: routers(prepared, "hv2").held[-1][0] == frozenset(), BETWEEN_PROOFS + 0.1)


def test_handing_over_takes_no_call_and_the_next_proof_is_without_it(cluster: SimCluster) -> None:
    cluster.run(1)
    before = len(routers(cluster, "hv1").held)
    cluster.ask("flush", "hv1")
    assert cluster.run_until(lambda: cluster.gateways.acting("lan") == ["hv2"], 1)
    assert len(routers(cluster, "hv1").held) == before
    assert not routers(cluster, "hv1").routers["lan"].active, "it stays for a moment, silent"
    assert cluster.run_until(lambda: routers(cluster, "hv1").held[-1][0] == frozenset(), BETWEEN_PROOFS + 0.1)
    assert not routers(cluster, "hv1").routers


def test_a_daemon_that_stops_leaves_its_gateway_as_much_time_as_there_can_be(cluster: SimCluster) -> None:
    cluster.run(1.0)
    before = len(routers(cluster, "hv1").held)
    Steps(cluster).perform({"stop": "hv1"})
    ((networks, seconds),) = routers(cluster, "hv1").held[before:]
    assert networks == {"lan"} and seconds > PASSING - 0.1
