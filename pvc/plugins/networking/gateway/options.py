"""The options of `pvc network add|modify` that are about the gateway, and how a network shows them."""

from typing import Annotated, Any

import typer

from pvc.plugins.networking.gateway.decide.domains import domain_of
from pvc.plugins.networking.records import Network, NetworkKind, Upstream

Dhcp = Annotated[
    bool | None,
    typer.Option("--dhcp/--no-dhcp", help="Whether the gateway gives the VMs their addresses; default: it does."),
]
DhcpRange = Annotated[
    str | None,
    typer.Option(metavar="FIRST-LAST", help="IPv4 addresses for VMs without a reservation; default: the subnet."),
]
Domain = Annotated[str | None, typer.Option(metavar="DOMAIN", help="Of the VMs' names; default: NETWORK.internal.")]
Dns = Annotated[
    list[str] | None,
    typer.Option(metavar="ADDRESS", help="Name server to ask for names outside the cluster; repeatable."),
]
Upstream4 = Annotated[
    str | None, typer.Option(metavar="ADDRESS/PREFIX", help="The gateway's own IPv4 address upstream.")
]
Upstream6 = Annotated[
    str | None, typer.Option(metavar="ADDRESS/PREFIX", help="The gateway's own IPv6 address upstream.")
]
UpstreamGateway4 = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The next router upstream, for IPv4; default: none.")
]
UpstreamGateway6 = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="The next router upstream, for IPv6; default: none.")
]
Nat = Annotated[
    bool | None, typer.Option("--nat/--no-nat", help="Whether packets leave with the gateway's own upstream address.")
]


def shown(network: Network) -> dict[str, Any]:
    """What the record of a network says of its gateway, by the names of the options."""
    managed = network.kind is NetworkKind.MANAGED
    upstream = network.upstream or Upstream("")
    return {
        "dhcp": network.dhcp if managed else None,
        "dhcp_range": None if network.dhcp_range is None else "-".join(network.dhcp_range),
        "domain": domain_of(network) if managed else None,
        "dns": list(network.dns),
        "upstream": upstream.network or None,
        "upstream_ipv4": upstream.ipv4,
        "upstream_ipv4_gateway": upstream.ipv4_gateway,
        "upstream_ipv6": upstream.ipv6,
        "upstream_ipv6_gateway": upstream.ipv6_gateway,
        "nat": upstream.nat if network.upstream is not None else None,
    }
