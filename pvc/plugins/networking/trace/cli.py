"""`pvc network trace`: where the way of a VM's frames breaks. Talks to the tree only."""

from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.plugins.networking.firewall.rules import WITH_PORTS, Protocol
from pvc.plugins.networking.keys import NETWORKS
from pvc.plugins.networking.trace.decide.case import Probe, Result, Step
from pvc.plugins.networking.trace.decide.path import is_broken, steps
from pvc.plugins.networking.trace.evidence import Wish, gather

COLUMNS = ("result", "step", "vm", "network", "node", "seen", "advice")
USAGE = 2
"""The command line makes no sense; the code that Typer uses."""
BROKEN = 7
"""The way breaks; a test compares it with the table of exit codes."""
PROTOCOLS = (Protocol.ICMP, *WITH_PORTS)


def add_commands(cli: CommandLine) -> None:
    """Add to the group `network`."""

    def networks(incomplete: str) -> list[str]:
        return cli.complete_below(NETWORKS, incomplete)

    @cli.group("network").command("trace", listing=True)
    def trace(
        vm: Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)],
        network: Annotated[str | None, typer.Option(help="Only this one of its.", autocompletion=networks)] = None,
        to: Annotated[
            str | None,
            typer.Option("--to", metavar="VM|ADDRESS", help="The other end.", autocompletion=cli.complete_vms),
        ] = None,
        protocol: Annotated[
            str, typer.Option(help="With --to, of the packet that rules are asked about: icmp, tcp, udp or sctp.")
        ] = "icmp",
        port: Annotated[int | None, typer.Option(min=1, max=65535, help="With --protocol, its port there.")] = None,
    ) -> None:
        """Follow the way of a VM's frames step by step, and say where it breaks."""
        probe = Probe(_protocol(cli, protocol, port), port)
        found = steps(gather(cli.connect(), cli.runtime, Wish(vm, network, to)), probe)
        cli.show([_row(step) for step in found], COLUMNS)
        broken = sum(step.result is Result.BROKEN for step in found)
        unknown = sum(step.result is Result.UNKNOWN for step in found)
        if unknown:
            cli.note(f"pvc: {unknown} of {len(found)} steps not known")
        if is_broken(found):
            cli.fail(f"{broken} of {len(found)} steps broken", BROKEN)


def _protocol(cli: CommandLine, text: str, port: int | None) -> Protocol:
    known = {protocol.value: protocol for protocol in PROTOCOLS}
    if text not in known:
        cli.fail(f"{text!r} is no protocol to ask rules about; allowed: {', '.join(known)}", USAGE)
    if port is not None and known[text] not in WITH_PORTS:
        cli.fail(f"{text} has no ports; say --protocol tcp, udp or sctp", USAGE)
    return known[text]


def _row(step: Step) -> dict[str, str | None]:
    return {
        "result": step.result.value,
        "step": step.what,
        "vm": step.vm or None,
        "network": step.network or None,
        "node": step.node or None,
        "seen": step.seen,
        "advice": step.advice or None,
    }
