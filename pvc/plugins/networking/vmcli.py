"""`pvc vm network`: plugging VMs into networks, as they run. Talks to the tree only."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pvc.core import keys
from pvc.core.commands import CommandLine
from pvc.core.devices import Ending, Propose, ending, failed, request_change, waiting
from pvc.core.lookup import find_vm
from pvc.core.model import DeviceChange, DeviceStep, Vm
from pvc.core.waiting import wait_for
from pvc.plugins.networking.decide.attachment import Attached, attached_in
from pvc.plugins.networking.keys import NETWORKS
from pvc.plugins.networking.plugging import PlugIn, Unplug, attached_by

COLUMNS = ("network", "mac", "model", "state", "reason")
TIMED_OUT = 6
"""The wait ended before the thing waited for did; the same code as for operations."""
UNDER_WAY = {DeviceStep.PLUG: "is being plugged in", DeviceStep.UNPLUG: "is being unplugged"}

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the VM, if it runs, is as the definition.")]
Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")]


def add_commands(cli: CommandLine) -> None:
    """Add to the group `vm network`."""
    group = cli.group("vm network")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]
    networks = _names(cli)

    @group.command("add")
    def add(
        name: Name,
        network: Annotated[str, typer.Argument(metavar="NETWORK", help="Its name.", autocompletion=networks)],
        mac: Annotated[str | None, typer.Option(help="MAC address; default: a free one.")] = None,
        model: Annotated[str, typer.Option(help="The network card that the guest sees.")] = "virtio",
        wait: Wait = True,
        timeout: Timeout = 60.0,
    ) -> None:
        """Plug a VM into a network: in its definition, and at once if it runs."""
        vm = find_vm(cli.connect(), name)
        change = _request(cli, vm, PlugIn(cli.connect(), cli.runtime, cli.user, vm, network, mac, model))
        _follow(cli, vm, change, wait, timeout)

    @group.command("remove")
    def remove(
        name: Name,
        what: Annotated[
            str, typer.Argument(metavar="NETWORK|MAC", help="The network, or which interface.", autocompletion=networks)
        ],
        wait: Wait = True,
        timeout: Timeout = 60.0,
    ) -> None:
        """Unplug a VM from a network: in its definition, and at once if it runs and its guest lets go."""
        vm = find_vm(cli.connect(), name)
        _follow(cli, vm, _request(cli, vm, Unplug(cli.runtime, cli.user, vm, what)), wait, timeout)

    @group.command("list", listing=True)
    def list_networks(name: Name) -> None:
        """Show the networks that a VM is plugged into, and what is still to be done or has failed."""
        vm = find_vm(cli.connect(), name)
        xml = cli.connect().get(keys.vm_xml(vm.uuid))
        cli.show(_rows(vm, "" if xml is None else xml.data.decode(errors="replace")), COLUMNS)


def _request(cli: CommandLine, vm: Vm, propose: Propose) -> DeviceChange:
    return request_change(cli.connect(), vm, propose, cli.vm_needs, cli.verdicts)


def _follow(cli: CommandLine, vm: Vm, change: DeviceChange, wait: bool, timeout: float) -> None:
    """Say what has become of a change; ends the command if it was not made."""
    what = _described(change)
    if change.step is DeviceStep.PLUG:
        done, to_be = f"{vm.name} is plugged into {what}", f"{vm.name} is to be plugged into {what}"
    else:
        done, to_be = f"{vm.name} is unplugged from {what}", f"{vm.name} is to be unplugged from {what}"
    if not wait:
        cli.say(to_be)
        return
    try:
        end: Ending | None = wait_for(cli.connect(), cli.runtime, lambda mirror: ending(mirror, vm, change), timeout)
    except KeyboardInterrupt:
        cli.fail(f"detached; {to_be}, see `pvc vm network list {vm.name}`", 130)
    if end is None:
        cli.fail(f"{to_be}, and is not after {timeout:g} s; see `pvc vm network list {vm.name}`", TIMED_OUT)
    if end.why:
        cli.fail(f"{to_be}, and is not: {end.why}")
    cli.say(f"{done} from its next start on" if end.at_next_start else done)


def _rows(vm: Vm, xml: str) -> list[dict[str, Any]]:
    changes = {one: change for change in waiting(vm) if (one := attached_by(change))}
    defined = [_row(one, UNDER_WAY[changes[one].step] if one in changes else "") for one in attached_in(xml)]
    leaving = [_row(one, UNDER_WAY[change.step]) for one, change in changes.items() if change.step is DeviceStep.UNPLUG]
    lost = [
        _row(one, "could not be plugged in" if change.step is DeviceStep.PLUG else "could not be unplugged", change)
        for change in failed(vm)
        if (one := attached_by(change))
    ]
    return [*defined, *leaving, *lost]


def _row(one: Attached, state: str, change: DeviceChange | None = None) -> dict[str, Any]:
    return {
        "network": one.network,
        "mac": one.mac or None,
        "model": one.model or None,
        "state": state or None,
        "reason": change.failed if change else None,
    }


def _described(change: DeviceChange) -> str:
    one = attached_by(change)
    return change.key if one is None else f"{one.network} as {one.mac}"


def _names(cli: CommandLine) -> Callable[[str], list[str]]:
    """Shell completion of the names of networks."""

    def complete(incomplete: str) -> list[str]:
        return cli.complete_below(NETWORKS, incomplete)

    return complete
