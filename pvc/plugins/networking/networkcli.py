"""`pvc network`: the cluster's networks. Talks to the tree only."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from pvc.core.commands import CommandLine
from pvc.core.coordination import Coordinator
from pvc.core.lookup import nodes_with_role, read_facts
from pvc.core.records import Garbage
from pvc.plugins.networking import requests
from pvc.plugins.networking.decide.attachment import published_in
from pvc.plugins.networking.firewall.acl import read_acl
from pvc.plugins.networking.firewall.rules import Direction
from pvc.plugins.networking.gateway import options
from pvc.plugins.networking.gateway.decide.typed import Typed
from pvc.plugins.networking.gateway.requests import shared_macs
from pvc.plugins.networking.gateway.shown import gateway_fields
from pvc.plugins.networking.keys import NETWORKS
from pvc.plugins.networking.records import Network, NetworkKind, Traffic, read_networks, read_traffic
from pvc.plugins.networking.schema import SECTION

COLUMNS = ("name", "kind", "device", "vlan", "vni", "mtu", "ipv4", "ipv6", "up", "down")
USAGE = 2
"""The command line makes no sense; the code that Typer uses."""

Mtu = Annotated[int | None, typer.Option(help="Bytes of the largest packet; default: what the way lets through.")]
Ipv4 = Annotated[str | None, typer.Option(metavar="SUBNET", help="IPv4 subnet of its VMs, as 192.0.2.0/24.")]
Ipv6 = Annotated[str | None, typer.Option(metavar="SUBNET", help="IPv6 subnet of its VMs, as 2001:db8::/64.")]
Gateway4 = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address of the gateway in the IPv4 subnet.")]
Gateway6 = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address of the gateway in the IPv6 subnet.")]


def add_commands(cli: CommandLine) -> None:
    """Add to the group `network`."""
    _add_changing(cli)
    _add_listing(cli)


def _add_changing(cli: CommandLine) -> None:
    group = cli.group("network")
    Name = Annotated[str, typer.Argument(metavar="NETWORK", help="Its name.", autocompletion=_names(cli))]
    Upstream = Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="The bridged network that leads out of the cluster; other --upstream options are then said anew.",
            autocompletion=_names(cli),
        ),
    ]

    @group.command("add")
    def add(
        name: Annotated[str, typer.Argument(metavar="NETWORK", help="1 to 11 lower-case letters, digits and '-'.")],
        device: Annotated[
            str | None, typer.Option(help="Bridge VMs to this device of each node; without it the network is managed.")
        ] = None,
        vlan: Annotated[int | None, typer.Option(help="With --device: its VLAN of this number.")] = None,
        vni: Annotated[int | None, typer.Option(help="Its VXLAN network identifier; default: a free one.")] = None,
        mtu: Mtu = None,
        ipv4: Ipv4 = None,
        ipv4_gateway: Gateway4 = None,
        ipv6: Ipv6 = None,
        ipv6_gateway: Gateway6 = None,
        dhcp: options.Dhcp = None,
        dhcp_range: options.DhcpRange = None,
        domain: options.Domain = None,
        dns: options.Dns = None,
        upstream: Upstream = None,
        upstream_ipv4: options.Upstream4 = None,
        upstream_ipv4_gateway: options.UpstreamGateway4 = None,
        upstream_ipv6: options.Upstream6 = None,
        upstream_ipv6_gateway: options.UpstreamGateway6 = None,
        nat: options.Nat = None,
    ) -> None:
        """Make a network: bridged to a device of each node, or managed, with tunnels between the nodes."""
        typed = Typed(
            dhcp=dhcp,
            dhcp_range=dhcp_range,
            domain=domain,
            dns=tuple(dns or ()),
            upstream=upstream,
            upstream_ipv4=upstream_ipv4,
            upstream_ipv4_gateway=upstream_ipv4_gateway,
            upstream_ipv6=upstream_ipv6,
            upstream_ipv6_gateway=upstream_ipv6_gateway,
            nat=nat,
        )
        kind = NetworkKind.MANAGED if device is None else NetworkKind.BRIDGED
        wanted = Network(name, kind, device or "", vlan, vni, mtu, ipv4, ipv4_gateway, ipv6, ipv6_gateway)
        network = requests.add(cli.connect(), typed.of(wanted))
        cli.say(f"network {name} is made: {_described(network)}; `pvc network info {name}` shows it on each node")
        _note_bare_subnets(cli, network)

    @group.command("modify")
    def modify(
        name: Name,
        mtu: Mtu = None,
        no_mtu: Annotated[bool, typer.Option("--no-mtu", help="What the way lets through.")] = False,
        ipv4: Ipv4 = None,
        ipv4_gateway: Gateway4 = None,
        no_ipv4: Annotated[bool, typer.Option("--no-ipv4", help="No IPv4 subnet and gateway.")] = False,
        ipv6: Ipv6 = None,
        ipv6_gateway: Gateway6 = None,
        no_ipv6: Annotated[bool, typer.Option("--no-ipv6", help="No IPv6 subnet and gateway.")] = False,
        dhcp: options.Dhcp = None,
        dhcp_range: options.DhcpRange = None,
        no_dhcp_range: Annotated[bool, typer.Option("--no-dhcp-range", help="The whole subnet.")] = False,
        domain: options.Domain = None,
        no_domain: Annotated[bool, typer.Option("--no-domain", help="NETWORK.internal.")] = False,
        dns: options.Dns = None,
        no_dns: Annotated[bool, typer.Option("--no-dns", help="Ask nobody outside the cluster.")] = False,
        upstream: Upstream = None,
        upstream_ipv4: options.Upstream4 = None,
        upstream_ipv4_gateway: options.UpstreamGateway4 = None,
        upstream_ipv6: options.Upstream6 = None,
        upstream_ipv6_gateway: options.UpstreamGateway6 = None,
        nat: options.Nat = None,
        no_upstream: Annotated[bool, typer.Option("--no-upstream", help="No way out of the cluster.")] = False,
    ) -> None:
        """Change a network. VMs that run take note of another MTU when they are started again."""
        given = {
            "mtu": mtu,
            "ipv4": ipv4,
            "ipv4_gateway": ipv4_gateway,
            "ipv6": ipv6,
            "ipv6_gateway": ipv6_gateway,
        }
        changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        dropped = {"mtu": no_mtu, "ipv4": no_ipv4, "ipv6": no_ipv6}
        for key in [key for key, drop in dropped.items() if drop]:
            if {key, f"{key}_gateway"} & changes.keys():
                cli.fail("an option and its opposite: say one of them", USAGE)
            changes |= {key: None} if key == "mtu" else {key: None, f"{key}_gateway": None}
        if no_ipv4:
            changes["dhcp_range"] = None
        drops = {"dhcp_range": no_dhcp_range, "domain": no_domain, "dns": no_dns, "upstream": no_upstream}
        typed = Typed(
            dhcp=dhcp,
            dhcp_range=dhcp_range,
            domain=domain,
            dns=tuple(dns or ()),
            upstream=upstream,
            upstream_ipv4=upstream_ipv4,
            upstream_ipv4_gateway=upstream_ipv4_gateway,
            upstream_ipv6=upstream_ipv6,
            upstream_ipv6_gateway=upstream_ipv6_gateway,
            nat=nat,
            dropped=frozenset(field for field, drop in drops.items() if drop),
        )
        if typed.contradictions():
            cli.fail("an option and its opposite: say one of them", USAGE)
        if not changes and typed.nothing():
            cli.fail("nothing to change; `pvc network modify --help` shows what can be", USAGE)
        network = requests.alter(cli.connect(), name, lambda before: typed.of(replace(before, **changes)))
        cli.say(f"network {name}: {_described(network)}")
        _note_bare_subnets(cli, network)

    @group.command("remove")
    def remove(name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
        """Forget a network that no VM uses."""
        coordinator = cli.connect()
        requests.demand_unused(coordinator, name)
        cli.confirm(f"Forget network {name}?", yes=yes)
        requests.remove(coordinator, name)
        cli.say(f"network {name} is forgotten")


def _add_listing(cli: CommandLine) -> None:
    group = cli.group("network")
    Name = Annotated[str, typer.Argument(metavar="NETWORK", help="Its name.", autocompletion=_names(cli))]

    @group.command("list", listing=True)
    def list_networks() -> None:
        """Show all networks, and on which nodes they are up."""
        coordinator = cli.connect()
        known = read_networks(coordinator)
        states = _states(coordinator)
        for name in [name for name, network in known.items() if network is None]:
            cli.note(f"pvc: the record of network {name} cannot be read; remove it, or repair it with zkCli.sh")
        cli.show([_row(network, states) for network in known.values() if network is not None], COLUMNS)

    @group.command("info", listing=True)
    def info(name: Name) -> None:
        """Show everything about one network."""
        coordinator = cli.connect()
        network, _ = requests.find_network(coordinator, name)
        plugged = requests.plugged(coordinator, name)
        states = _states(coordinator)
        traffic = read_traffic(coordinator, name)
        nodes = [
            {
                "node": node,
                "mtu": of_node[name][0] or None if name in of_node else None,
                "interfaces": plugged.get(node, 0),
                **asdict(traffic.get(node, Traffic())),
                "problem": of_node[name][1] or None if name in of_node else "not set up yet",
            }
            for node, of_node in states.items()
        ]
        row = {
            **_row(network, states),
            **gateway_fields(coordinator, network),
            **_rules(coordinator, name),
            "vms": requests.users(coordinator, name),
            "shared_macs": shared_macs(coordinator, name),
            "nodes": nodes,
        }
        cli.show([row], list(row), one=True)


def _states(coordinator: Coordinator) -> dict[str, dict[str, tuple[int, str]]]:
    """By node with the role, of each network its MTU there and why it cannot be used."""
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for node in nodes_with_role(coordinator, SECTION):
        states = published_in(read_facts(coordinator, node))
        found[node] = {name: (state.mtu, state.problem) for name, state in states.items()}
    return found


def _row(network: Network, states: dict[str, dict[str, tuple[int, str]]]) -> dict[str, Any]:
    up = [node for node, of_node in states.items() if network.name in of_node and not of_node[network.name][1]]
    return {
        "name": network.name,
        "kind": network.kind,
        "device": network.device or None,
        "vlan": network.vlan,
        "vni": network.vni,
        "mtu": network.mtu,
        "ipv4": network.ipv4,
        "ipv4_gateway": network.ipv4_gateway,
        "ipv6": network.ipv6,
        "ipv6_gateway": network.ipv6_gateway,
        **options.shown(network),
        "up": up,
        "down": [node for node in states if node not in up],
    }


def _rules(coordinator: Coordinator, network: str) -> dict[str, Any]:
    """How many rules the firewall has for a network, and what becomes of the rest; nothing of what cannot be read."""
    try:
        acl = read_acl(coordinator, network)
    except Garbage:
        return {f"{what}_{way.value}": None for what in ("rules", "default") for way in Direction}
    sides = {way.value: acl.side(way) for way in Direction}
    return {
        **{f"rules_{way}": len(side.rules) for way, side in sides.items()},
        **{f"default_{way}": side.default for way, side in sides.items()},
    }


def _described(network: Network) -> str:
    if network.kind is NetworkKind.BRIDGED:
        way = f"bridged to {network.device}" + (f", VLAN {network.vlan}" if network.vlan else "")
    else:
        way = f"managed, VNI {network.vni}"
    subnets = [subnet for subnet in (network.ipv4, network.ipv6) if subnet]
    out = [f"upstream {network.upstream.network}"] if network.upstream is not None else []
    return ", ".join([way, *([f"MTU {network.mtu}"] if network.mtu else []), *subnets, *out])


def _note_bare_subnets(cli: CommandLine, network: Network) -> None:
    """Say of subnets without a gateway that VMs are given no addresses of them, unless nobody wants that."""
    if not network.dhcp:
        return
    subnets = ((4, network.ipv4, network.ipv4_gateway), (6, network.ipv6, network.ipv6_gateway))
    for version, subnet, gateway in subnets:
        if subnet and not gateway:
            way = f"`pvc network modify {network.name} --ipv{version}-gateway ADDRESS`"
            cli.note(f"pvc: {subnet} has no gateway, so VMs get no addresses of it by themselves; {way} makes one")


def _names(cli: CommandLine) -> Callable[[str], list[str]]:
    """Shell completion of the names of networks."""

    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(NETWORKS, incomplete)

    return complete
