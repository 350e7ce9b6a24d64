"""The commands of the group `network acl`: the rules of a network. Talks to the tree only."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from pvc.core.commands import CommandLine
from pvc.plugins.networking.firewall.acl import change_acl, demand_network, read_acl
from pvc.plugins.networking.firewall.decide.order import (
    with_default,
    with_moved,
    with_rule,
    with_set,
    without_rule,
    without_set,
)
from pvc.plugins.networking.firewall.decide.typed import Typed, default_of, direction_of, rule_of, set_of
from pvc.plugins.networking.firewall.rules import Acl, Direction, Rule
from pvc.plugins.networking.keys import NETWORKS

GROUP = "network acl"
COMMANDS = ("add", "list", "remove", "move", "default", "set")
"""The commands that `add_commands` adds, as the plugin announces them."""
COLUMNS = ("direction", "number", "action", "protocol", "from", "from_ports", "to", "ports", "comment")

Way = Annotated[str, typer.Argument(metavar="in|out", help="What VMs receive, or what they send.")]
Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The rule, as the list numbers it.")]


def add_commands(cli: CommandLine) -> None:
    """Add to the group `network acl`."""
    _add_reading(cli)
    _add_rules(cli)
    _add_rest(cli)


def _add_reading(cli: CommandLine) -> None:
    Network = Annotated[str, typer.Argument(metavar="NETWORK", help="The network.", autocompletion=_names(cli))]

    @cli.group(GROUP).command("list", listing=True)
    def list_rules(
        network: Network,
        direction: Annotated[str, typer.Argument(metavar="[in|out]", help="Only this direction.")] = "",
    ) -> None:
        """Show the rules of a network in the order in which they are tried, then the defaults; and its sets."""
        only = [direction_of(direction)] if direction else list(Direction)
        demand_network(cli.connect(), network)
        acl = read_acl(cli.connect(), network)
        cli.show([row for each in only for row in _rows(acl, each)], COLUMNS)
        for name, entries in sorted(acl.sets.items()):
            cli.note(f"set @{name}: {', '.join(entries) or 'empty'}")


def _add_rules(cli: CommandLine) -> None:
    group = cli.group(GROUP)
    Network = Annotated[str, typer.Argument(metavar="NETWORK", help="The network.", autocompletion=_names(cli))]
    At = Annotated[int | None, typer.Option("--at", metavar="NUMBER", help="Its place; the last one if not said.")]

    @group.command("add")
    def add(
        network: Network,
        direction: Way,
        action: Annotated[str, typer.Option("--action", help="accept, drop, or (out only) reject.")],
        protocol: Annotated[str, typer.Option("--protocol", help="any, tcp, udp, sctp, icmp or icmpv6.")] = "any",
        source: Annotated[str, typer.Option("--from", help="Addresses, networks and @sets, with commas.")] = "",
        destination: Annotated[str, typer.Option("--to", help="Addresses, networks and @sets, with commas.")] = "",
        ports: Annotated[str, typer.Option("--ports", help="Of the destination: 22,80-90.")] = "",
        source_ports: Annotated[str, typer.Option("--from-ports", help="Of the source.")] = "",
        comment: Annotated[str, typer.Option("--comment", help="What it is for.")] = "",
        at: At = None,
    ) -> None:
        """Add a rule; what an option does not name, it fits whatever it is."""
        typed = Typed(direction, action, protocol, source, destination, source_ports, ports, comment)

        def change(acl: Acl) -> tuple[Acl, int]:
            return with_rule(acl, direction_of(direction), rule_of(typed, acl.sets), at)

        number = change_acl(cli.connect(), network, change)
        cli.say(f"rule {number} of {direction} of {network} is added")

    @group.command("remove")
    def remove(network: Network, direction: Way, number: Number) -> None:
        """Remove a rule; those after it move up."""
        way = direction_of(direction)
        rule = change_acl(cli.connect(), network, lambda acl: without_rule(acl, way, number))
        cli.say(f"removed from {direction} of {network}: {_in_words(rule)}")

    @group.command("move")
    def move(
        network: Network,
        direction: Way,
        number: Number,
        to: Annotated[int, typer.Argument(metavar="TO", help="Its number afterwards.")],
    ) -> None:
        """Move a rule to another place."""
        way = direction_of(direction)
        change_acl(cli.connect(), network, lambda acl: (with_moved(acl, way, number, to), None))
        cli.say(f"rule {number} of {direction} of {network} is rule {to} now")


def _add_rest(cli: CommandLine) -> None:
    group = cli.group(GROUP)
    Network = Annotated[str, typer.Argument(metavar="NETWORK", help="The network.", autocompletion=_names(cli))]

    @group.command("default")
    def default(
        network: Network,
        direction: Way,
        action: Annotated[str, typer.Argument(metavar="accept|drop", help="What becomes of the rest.")],
    ) -> None:
        """Say what becomes of what no rule fits."""
        way, chosen = direction_of(direction), default_of(action)
        change_acl(cli.connect(), network, lambda acl: (with_default(acl, way, chosen), None))
        cli.say(f"what no rule of {direction} of {network} fits: {action}")

    @group.command("set")
    def set_addresses(
        network: Network,
        name: Annotated[str, typer.Argument(metavar="SET", help="Its name, without the @.")],
        addresses: Annotated[list[str] | None, typer.Argument(help="Addresses and networks.")] = None,
        delete: Annotated[bool, typer.Option("--delete", help="Remove the set; no rule may use it.")] = False,
    ) -> None:
        """Make a set of addresses that rules can name as @SET, or give it other addresses."""
        if delete and addresses:
            cli.fail("a set that is deleted has no addresses; leave them out, or --delete", 2)
        entries = set_of(name, addresses or [])

        def change(acl: Acl) -> tuple[Acl, None]:
            return (without_set(acl, name) if delete else with_set(acl, name, entries)), None

        change_acl(cli.connect(), network, change)
        cli.say(f"set @{name} of {network}: {'removed' if delete else ', '.join(entries) or 'empty'}")


def _rows(acl: Acl, direction: Direction) -> Iterator[dict[str, Any]]:
    side = acl.side(direction)
    for number, rule in enumerate(side.rules, 1):
        yield {"direction": direction.value, "number": number, **_row(rule)}
    yield {"direction": direction.value, "number": None, "action": side.default.value, "comment": "default"}


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "action": rule.action.value,
        "protocol": rule.protocol.value,
        "from": list(rule.source),
        "from_ports": [str(ports) for ports in rule.source_ports],
        "to": list(rule.destination),
        "ports": [str(ports) for ports in rule.ports],
        "comment": rule.comment,
    }


def _in_words(rule: Rule) -> str:
    parts = _row(rule)
    lists = ((key.replace("_", " "), each) for key, each in parts.items() if isinstance(each, list))
    words = [f"{key} {','.join(each)}" for key, each in lists if each]
    return " ".join([parts["action"], parts["protocol"], *words, *([f"({rule.comment})"] if rule.comment else [])])


def _names(cli: CommandLine) -> Callable[[str], list[str]]:
    """Shell completion of the names of networks."""

    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(NETWORKS, incomplete)

    return complete
