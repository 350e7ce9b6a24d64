"""What a person is shown of a network's gateway."""

from typing import Any

from pvc.core.commands import Moment
from pvc.core.coordination import Coordinator
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.decide.wanted import has_gateway
from pvc.plugins.networking.records import Gateway, Network, decoded


def gateway_fields(coordinator: Coordinator, network: Network) -> dict[str, Any]:
    """Which node is the gateway and since when, who is asked to take it over, and where an unflush brings it back to.

    All None if the network has no gateway's address; no node and no time while none has the ticket. Raises
    Disconnected.
    """
    znode, ticket = coordinator.get_many([keys.gateway(network.name), keys.gateway_ticket(network.name)])
    record = decoded(Gateway, znode.data, keys.gateway(network.name)) if znode and has_gateway(network) else None
    known = record or Gateway()
    return {
        "gateway": known.node if ticket else None,
        "gateway_since": Moment(known.since) if ticket and record else None,
        "gateway_next": known.next,
        "gateway_home": known.home,
    }
