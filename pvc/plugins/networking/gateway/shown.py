"""What a person is shown of a network's gateway."""

from typing import Any

from pvc.core.commands import Moment
from pvc.core.coordination import Coordinator
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.decide.wanted import has_gateway
from pvc.plugins.networking.records import Gateway, Network, decoded


def gateway_row(coordinator: Coordinator, network: Network) -> dict[str, Any] | None:
    """Where it is and since when, who is asked to take it over, its home and addresses; None: the network has none.

    `node` is None while no node has the ticket. Raises Disconnected.
    """
    if not has_gateway(network):
        return None
    znode, ticket = coordinator.get_many([keys.gateway(network.name), keys.gateway_ticket(network.name)])
    record = (decoded(Gateway, znode.data, keys.gateway(network.name)) if znode else None) or Gateway()
    upstream = network.upstream
    outside = (upstream.ipv4, upstream.ipv6) if upstream else ()
    return {
        "node": record.node if ticket else None,
        "since": Moment(record.since) if ticket else None,
        "next": record.next,
        "home": record.home,
        "addresses": [address for address in (network.ipv4_gateway, network.ipv6_gateway) if address],
        "upstream": [address for address in outside if address],
    }
