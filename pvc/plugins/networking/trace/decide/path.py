"""The steps of a way, in the order in which a packet takes it, and what is so at each."""

from collections.abc import Iterator, Sequence

from pvc.plugins.networking.trace.decide import carriage, edges, ends
from pvc.plugins.networking.trace.decide.case import Case, End, Hop, Probe, Result, Step


def steps(case: Case, probe: Probe) -> list[Step]:
    """All that can be said of the way."""
    found: list[Step] = []
    for end in case.ends:
        found += ends.whereabouts(case, end)
        found += ends.interfaces(case, end)
        if end.actual.node in case.nodes and end.actual.state in ends.RUNS:
            for network in case.networks:
                if any(one.network == network for one in end.interfaces):
                    found += _hop(Hop(case, end, network, end.actual.node or ""))
    if edges.needs_gateways(case):
        found += _lacking_gateways(case)
    return [*found, *edges.passage(case, probe)]


def is_broken(found: Sequence[Step]) -> bool:
    """Whether the way breaks somewhere."""
    return any(step.result is Result.BROKEN for step in found)


def _hop(hop: Hop) -> Iterator[Step]:
    yield carriage.network(hop)
    yield from carriage.devices(hop)
    yield from ends.ports(hop)
    yield from ends.claims(hop)
    yield from carriage.forwarding(hop)
    yield from carriage.mtu(hop)
    yield from edges.firewall(hop)
    yield from edges.gateway(hop)
    yield from edges.lease(hop)


def _lacking_gateways(case: Case) -> Iterator[Step]:
    """Between networks a packet needs the gateway of each."""
    for end in case.ends:
        names = [name for name in case.networks if any(one.network == name for one in end.interfaces)]
        records = [case.networks[name] for name in names]
        if not any(record and (record.ipv4_gateway or record.ipv6_gateway) for record in records):
            yield _no_gateway(end, names)


def _no_gateway(end: End, names: Sequence[str]) -> Step:
    told = " and ".join(names)
    seen = f"the way leads out of network {told}, which has no gateway of pvc's"
    if len(names) != 1:
        seen = f"the way leads out of networks {told}, which have no gateway of pvc's"
    advice = "give the network a gateway's address, or look at the router that its VMs use"
    return Step("gateway", Result.UNKNOWN, seen, advice, end.vm.name, names[0] if names else "")
