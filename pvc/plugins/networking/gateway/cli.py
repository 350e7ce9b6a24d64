"""The commands of the groups `network reservation` and `network lease`. Talks to the tree only."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pvc.core.commands import CommandLine, Moment
from pvc.core.coordination import Coordinator
from pvc.plugins.networking.gateway.book import read_leases
from pvc.plugins.networking.gateway.requests import places, release, reserve, unreserve
from pvc.plugins.networking.keys import NETWORKS
from pvc.plugins.networking.records import Lease, NetworkKind, read_networks
from pvc.plugins.networking.requests import find_network

COLUMNS = ("network", "vm", "mac", "ipv4", "ipv6", "reserved", "node", "since")


def add_reservation_commands(cli: CommandLine) -> None:
    """Add to the group `network reservation`."""
    group = cli.group("network reservation")
    Network = Annotated[str, typer.Argument(metavar="NETWORK", help="The network.", autocompletion=_networks(cli))]
    Which = Annotated[
        str | None, typer.Argument(metavar="NETWORK", help="Only of this one.", autocompletion=_networks(cli))
    ]
    Who = Annotated[
        str, typer.Argument(metavar="VM|MAC", help="The VM, or a MAC address.", autocompletion=cli.complete_vms)
    ]

    @group.command("add")
    def add(
        network: Network,
        who: Who,
        addresses: Annotated[
            list[str] | None,
            typer.Argument(metavar="ADDRESS", help="An IPv4 and/or IPv6 address; none: those it has, or gets."),
        ] = None,
    ) -> None:
        """Reserve addresses for a VM, or for a MAC address: nobody else ever gets them. Also changes a reservation."""
        lease = reserve(cli.connect(), network, who, tuple(addresses or ()), cli.runtime.now())
        cli.say(f"reserved on network {network} for {_whose(lease)}: {_addresses(lease)}")

    @group.command("remove")
    def remove(network: Network, who: Who) -> None:
        """Give up a reservation. A VM that is there keeps the addresses as long as nobody needs them more."""
        lease = unreserve(cli.connect(), network, who)
        rest = f"it keeps {_addresses(lease)} as any VM does" if _addresses(lease) else "its addresses are free"
        cli.say(f"nothing of network {network} is reserved for {_whose(lease)} any more; {rest}")

    @group.command("list", listing=True)
    def list_reservations(network: Which = None) -> None:
        """Show what is reserved for whom, and on which node it is used now."""
        cli.show([row for row in _rows(cli.connect(), network) if row["reserved"]], COLUMNS)


def add_lease_commands(cli: CommandLine) -> None:
    """Add to the group `network lease`."""
    group = cli.group("network lease")

    @group.command("list", listing=True)
    def list_leases(
        network: Annotated[
            str | None, typer.Argument(metavar="NETWORK", help="Only of this one.", autocompletion=_networks(cli))
        ] = None,
    ) -> None:
        """Show which addresses belong to whom, since when, and on which node they are used now."""
        cli.show(_rows(cli.connect(), network), COLUMNS)

    @group.command("release")
    def release_addresses(
        network: Annotated[str, typer.Argument(metavar="NETWORK", help="The network.", autocompletion=_networks(cli))],
        who: Annotated[
            str, typer.Argument(metavar="VM|MAC", help="The VM, or a MAC address.", autocompletion=cli.complete_vms)
        ],
    ) -> None:
        """Take its addresses from a VM that is gone, or from a MAC address, so that others can have them."""
        coordinator = cli.connect()
        lease = release(coordinator, network, who)
        cli.say(f"released on network {network} from {_whose(lease)}: {_addresses(lease) or 'what could not be read'}")
        if node := places(coordinator, network).get(lease.mac):
            cli.note(f"pvc: it runs on {node}, uses its addresses until it asks again, and may get the same")


def _rows(coordinator: Coordinator, only: str | None) -> list[dict[str, Any]]:
    if only is not None:
        find_network(coordinator, only)
    known = read_networks(coordinator).items()
    managed = [name for name, network in known if network is None or network.kind is NetworkKind.MANAGED]
    found = []
    for name in [name for name in managed if only in (None, name)]:
        leases = read_leases(coordinator, name)
        nodes = places(coordinator, name) if leases else {}
        found += [_row(name, lease, nodes.get(mac)) for mac, lease in leases.items()]
    return found


def _row(network: str, lease: Lease, node: str | None) -> dict[str, Any]:
    return {
        "network": network,
        "vm": lease.name or None,
        "mac": lease.mac,
        "ipv4": lease.ipv4,
        "ipv6": lease.ipv6,
        "reserved": lease.reserved,
        "node": node,
        "since": Moment(lease.since),
    }


def _whose(lease: Lease) -> str:
    return f"{lease.name} ({lease.mac})" if lease.name else lease.mac


def _addresses(lease: Lease) -> str:
    return " ".join(address for address in (lease.ipv4, lease.ipv6) if address)


def _networks(cli: CommandLine) -> Callable[[str], list[str]]:
    """Shell completion of the names of networks."""

    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(NETWORKS, incomplete)

    return complete
