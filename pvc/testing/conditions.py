"""What a scenario may expect of a simulated cluster, by kind; each answer says what is so instead."""

from collections.abc import Callable, Mapping
from typing import Any

from pvc.core import keys
from pvc.core.decide.roles import described
from pvc.core.lookup import read_facts
from pvc.plugins.flushlock.tickets import read_queue
from pvc.plugins.networking.decide.attachment import macs_in, published_in
from pvc.plugins.networking.keys import gateway
from pvc.plugins.networking.records import Gateway, decoded
from pvc.testing.cluster import SimCluster
from pvc.testing.ledger import image_of, last_task, pools_of, volume_of


def unmet(cluster: SimCluster, conditions: Mapping[str, Any]) -> list[str]:
    """The conditions that do not hold, in words; ValueError for one that does not exist.

    Each is a mapping from a node or VM to what it should be; `queue` is the list of the nodes whose operations have
    a ticket, in order.
    """
    found: list[str] = []
    for kind, wanted in conditions.items():
        if kind == "queue":
            queue = [place.ticket.node if place.ticket else "?" for place in read_queue(cluster.client)]
            found += [] if queue == wanted else [f"the queue is {queue}, not {wanted}"]
            continue
        if kind not in _LOOKS:
            raise ValueError(f"there is no condition {kind!r}; use one of queue, {', '.join(sorted(_LOOKS))}")
        for name, value in wanted.items():
            found += _compared(kind, name, value, _LOOKS[kind](cluster, name))
    return found


def defined(cluster: SimCluster, vm: str) -> list[str]:
    """The MAC addresses in a VM's definition."""
    xml = cluster.client.get(keys.vm_xml(cluster.vm(vm).uuid))
    return sorted(macs_in(xml.data.decode())) if xml else []


def _compared(kind: str, name: str, wanted: Any, is_so: Any) -> list[str]:
    if isinstance(wanted, Mapping):
        return [text for part, value in wanted.items() for text in _compared(kind, part, value, is_so.get(part))]
    met = wanted in (is_so or "") if kind in _WORDS and wanted else is_so == wanted
    return [] if met else [f"{kind} of {name} is {is_so!r}, not {wanted!r}"]


def _outcomes(cluster: SimCluster, node: str) -> dict[str, str]:
    return {outcome.name: outcome.state.value for outcome in cluster.operation(node).outcomes.values()}


def _reasons(cluster: SimCluster, node: str) -> dict[str, str]:
    return {outcome.name: outcome.why for outcome in cluster.operation(node).outcomes.values()}


def _taken(cluster: SimCluster, name: str) -> str:
    daemon = cluster.nodes[name].daemon
    return str(daemon.taken or "") if daemon else ""


def _roles_changed(cluster: SimCluster, name: str) -> str | None:
    change = cluster.node(name).roles_changed
    return described(change) if change else None


def _findings(cluster: SimCluster, name: str) -> str:
    daemon = cluster.nodes[name].daemon
    return "; ".join(finding.text for finding in daemon.findings()) if daemon else ""


def _networks(cluster: SimCluster, node: str) -> dict[str, str]:
    """How each network is on a node: `up`, or why it cannot be used."""
    published = published_in(read_facts(cluster.client, node))
    return {name: state.problem or "up" for name, state in published.items()}


def _reached_at(cluster: SimCluster, way: str) -> list[str]:
    """The nodes that a frame is sent to; `way`: NODE NETWORK MAC."""
    node, network, mac = way.split()
    addresses = {cluster.node(name).address: name for name in cluster.nodes}
    return sorted(addresses[to] for to in cluster.nodes[node].dataplane.sends(f"pvx-{network}", mac))


def _plugged(cluster: SimCluster, vm: str) -> list[str]:
    """The MAC addresses that a VM has where it executes."""
    it = cluster.vm(vm)
    return sorted({mac for host in cluster.fabric.running(it.uuid) for mac in macs_in(_xml(cluster, host, it.uuid))})


def _xml(cluster: SimCluster, host: str, uuid: str) -> str:
    return cluster.fabric.host(host).guest(uuid).xml


def _device_changes(cluster: SimCluster, vm: str) -> list[str]:
    """What is still to be done to a VM's devices, and what has failed, with why."""
    changes = cluster.vm(vm).device_changes
    return [f"{each.step.value} {each.key}" + (f": {each.failed}" if each.failed else "") for each in changes]


def _gateway(cluster: SimCluster, network: str) -> str:
    """The nodes whose router of the network lets frames pass, joined by a comma."""
    return ",".join(cluster.gateways.acting(network))


def _gateway_record(cluster: SimCluster, network: str) -> dict[str, Any]:
    znode = cluster.client.get(gateway(network))
    record = (decoded(Gateway, znode.data, gateway(network)) if znode else None) or Gateway()
    return {"node": record.node, "next": record.next, "home": record.home}


_LOOKS: Mapping[str, Callable[[SimCluster, str], Any]] = {
    "phase": lambda cluster, node: cluster.operation(node).phase.value,
    "message": lambda cluster, node: cluster.operation(node).message,
    "waiting": lambda cluster, node: cluster.operation(node).waiting,
    "outcome": _outcomes,
    "warnings": lambda cluster, node: "; ".join(cluster.operation(node).warnings),
    "why": _reasons,
    "node": lambda cluster, node: cluster.node(node).state.value,
    "taken": _taken,
    "roles": lambda cluster, node: list(cluster.node(node).roles),
    "roles_changed": _roles_changed,
    "needs": lambda cluster, vm: {role: list(things) for role, things in cluster.vm(vm).needs.items()},
    "findings": _findings,
    "where": lambda cluster, vm: ",".join(cluster.fabric.running(cluster.vm(vm).uuid)),
    "vm": lambda cluster, vm: cluster.actual(vm).state.value,
    "holder": lambda cluster, vm: cluster.actual(vm).node,
    "wanted": lambda cluster, vm: cluster.vm(vm).state.value,
    "assigned": lambda cluster, vm: cluster.vm(vm).node,
    "home": lambda cluster, vm: cluster.vm(vm).home,
    "reason": lambda cluster, vm: cluster.actual(vm).reason,
    "networks": _networks,
    "reached_at": _reached_at,
    "plugged": _plugged,
    "defined": defined,
    "device_changes": _device_changes,
    "gateway": _gateway,
    "gateway_record": _gateway_record,
    "pools": pools_of,
    "volume": volume_of,
    "image": image_of,
    "task": lambda cluster, name: last_task(cluster, name).phase.value,
    "task_node": lambda cluster, name: last_task(cluster, name).node,
    "task_message": lambda cluster, name: last_task(cluster, name).message,
    "failed_move": lambda cluster, vm: cluster.actual(vm).failed_move,
}
_WORDS = frozenset(
    {"message", "warnings", "waiting", "why", "taken", "reason", "failed_move", "findings", "networks", "pools"}
    | {"task_message"}
)
"""Conditions that ask for a part of a text."""
