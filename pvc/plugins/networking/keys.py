"""The role's paths in the tree, and the names under which nodes publish what they know."""

from pvc.core import keys as core

UP = "networking.bridges"
"""Bridges of the node that are up, with spaces between them."""

LACKING = "networking.lacking"
"""Bridges that the node should have and that are missing or down, with spaces between them."""

STATE = "networking.network."
"""Before the name of each network of the cluster: how it is on this node, as JSON (`decide/attachment.py`). A fact of
its own for each, since a fact is short."""

FABRIC = "networking.fabric"
"""How managed networks are held together on the node, in words that are the same on all nodes (`evpn/`)."""

NETWORKS = "/networks"
"""Children: the networks. Every change of any of them rewrites it at the version it was read at, so of two changes at
once one is refused, and what must be unique among networks is."""


def node_trace(name: str) -> str:
    """Ephemeral, of a client's session: what `pvc network trace` asks of the node, with its daemon's answer."""
    return f"{core.node(name)}/trace"


def network(name: str) -> str:
    """What is wanted of a network."""
    return f"{NETWORKS}/{name}"


def ports(name: str) -> str:
    """Children: the nodes that run VMs on the network. Apart from the record, so that who only wants to know the
    networks is not woken by VMs that come and go."""
    return f"{NETWORKS}/{name}/ports"


def node_ports(name: str, node: str) -> str:
    """The MAC addresses on the network that are on this node, which alone writes it, and deletes it with the last."""
    return f"{NETWORKS}/{name}/ports/{node}"


def traffic(name: str) -> str:
    """Children: the nodes that have run VMs on the network. Nobody watches it."""
    return f"{NETWORKS}/{name}/traffic"


def node_traffic(name: str, node: str) -> str:
    """What the VMs on the network have sent and received on this node."""
    return f"{NETWORKS}/{name}/traffic/{node}"


def gateway(name: str) -> str:
    """Where the gateway of a managed network is."""
    return f"{NETWORKS}/{name}/gateway"


def gateway_ticket(name: str) -> str:
    """Ephemeral, of the holder's session: who has none is no gateway, and nobody else can have one meanwhile."""
    return f"{NETWORKS}/{name}/gateway/ticket"


def gateway_ready(name: str) -> str:
    """Ephemeral: the node that was asked to take over has made everything ready."""
    return f"{NETWORKS}/{name}/gateway/ready"


def leases(name: str) -> str:
    """Children: MAC addresses, each with the addresses that belong to it. Every change of any of them rewrites it at
    the version it was read at, so an address never belongs to two."""
    return f"{NETWORKS}/{name}/leases"


def lease(name: str, mac: str) -> str:
    """The addresses of one MAC address."""
    return f"{NETWORKS}/{name}/leases/{mac}"
