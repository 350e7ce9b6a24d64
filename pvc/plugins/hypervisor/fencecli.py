"""`pvc node fence`: declares a node dead and starts its VMs elsewhere. Talks to the tree only."""

from collections.abc import Sequence
from enum import Enum
from typing import Annotated

import typer

from pvc.core import keys
from pvc.core.commands import CommandLine
from pvc.core.coordination import Coordinator
from pvc.core.lookup import find_node
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, Vm, VmState
from pvc.core.records import Garbage
from pvc.core.waiting import wait_for
from pvc.plugins.hypervisor.fencing import Freed, StillAlive, declare, free, vms_of
from pvc.plugins.hypervisor.records import read_vm
from pvc.plugins.hypervisor.settings import PlacementSettings, settings_from

FAILED = 1
TIMED_OUT = 6
"""The wait ended before the thing waited for did; the same code as for operations."""


def add_commands(cli: CommandLine) -> None:
    """Add to the group `node`."""
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]

    @cli.group("node").command("fence")
    def fence(
        name: Name,
        reason: Annotated[str, typer.Option(help="Kept with the node and shown.")] = "",
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until its VMs run elsewhere.")] = True,
        timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")] = 120.0,
    ) -> None:
        """Declare a node dead that does not answer, and start its VMs on others. Make sure that its host is off: only
        some storage can keep a host out that is not. Asked again, it goes on with what is left."""
        coordinator = cli.connect()
        find_node(coordinator, name)
        if coordinator.get(keys.node_session(name)) is not None:
            raise StillAlive(name)
        vms, unreadable = vms_of(coordinator, name)
        cli.confirm(f"{_told(vms)} If the host of {name} is not off, they may run twice. Declare {name} dead?", yes=yes)
        declare(coordinator, cli.runtime, name, cli.user, reason)
        cli.say(f"{name} is declared dead; it takes no VM until it is back and nothing of before runs there")
        freed = [one for vm in vms if (one := _free(cli, name, vm, unreadable)) is not None]
        _end(cli, name, freed, timeout if wait else None)
        if unreadable:
            for garbage in unreadable:
                cli.note(f"pvc: {garbage}")
            cli.fail(f"whether {name} has these VMs is not known; repair their records, then {_again(name)}", FAILED)


def _told(vms: Sequence[Vm]) -> str:
    names = ", ".join(vm.name for vm in vms)
    return (
        f"VMs that are taken from it and, if they are to run, started elsewhere: {names}." if vms else "No VM is there."
    )


def _placement(cli: CommandLine) -> PlacementSettings:
    return settings_from(cli.config.section("hypervisor")).placement


def _again(name: str) -> str:
    return f"`pvc node fence {name}` goes on with what is left"


def _free(cli: CommandLine, name: str, vm: Vm, unreadable: list[Garbage]) -> Freed | None:
    try:
        freed = free(cli.connect(), cli.runtime, name, vm, _placement(cli), cli.verdicts)
    except Garbage as garbage:
        unreadable.append(garbage)
        return None
    cli.say(f"{freed.vm.name}: {f'is to start on {freed.runs_on}' if freed.runs_on else freed.why}")
    return freed


def _end(cli: CommandLine, name: str, freed: Sequence[Freed], timeout: float | None) -> None:
    """Wait for what is to start; ends the command with a code if not all that should run does."""
    coordinator = cli.connect()
    prospects = [(one.vm, _prospect(coordinator, one)) for one in freed]
    starting = [vm for vm, prospect in prospects if prospect is Prospect.COMES]
    homeless = [vm.name for vm, prospect in prospects if prospect is Prospect.STAYS_DOWN]
    astray = [vm.name for vm, prospect in prospects if prospect is Prospect.UNKNOWN]
    if starting and timeout is not None:
        try:
            failed = wait_for(coordinator, cli.runtime, lambda mirror: _failed(mirror, starting), timeout)
        except KeyboardInterrupt:
            cli.fail("detached; `pvc vm list` shows the VMs", 130)
        if failed is None:
            cli.fail(f"not all VMs run after {timeout:g} s; `pvc vm list` shows them", TIMED_OUT)
        for why in failed:
            cli.note(f"pvc: {why}")
        if failed:
            cli.fail(f"{len(failed)} of {len(starting)} VMs do not run; {_again(name)}", FAILED)
        cli.say(f"{len(starting)} of {len(starting)} VMs run elsewhere")
    if homeless:
        cli.fail(f"stay down: {', '.join(homeless)}; make room and run `pvc vm start`", FAILED)
    if astray:
        cli.fail(f"where {', '.join(astray)} runs is not known; find out, then `pvc vm start`", FAILED)


def _failed(mirror: Mirror, vms: Sequence[Vm]) -> list[str] | None:
    """Why some of the VMs do not run; None: some are still on their way."""
    failed = []
    for vm in vms:
        records = read_vm(mirror, vm.uuid)
        if records is None or records.vm.state is not VmState.RUNNING:
            continue  # somebody else has decided otherwise since
        if records.actual.state is ActualState.FAILED:
            failed.append(f"{vm.name} on {records.actual.node}: {records.actual.reason}")
        elif records.actual.state is not ActualState.RUNNING:
            return None
    return failed


class Prospect(Enum):
    """What can be said of a VM once its lease is free or left to others."""

    COMES = "comes"
    """Some node is to start it, or to say that it arrived."""
    STAYS_DOWN = "stays down"
    UNKNOWN = "unknown"
    NOT_WANTED = "not wanted"
    """It is not to run."""


def _prospect(coordinator: Coordinator, freed: Freed) -> Prospect:
    records = read_vm(coordinator, freed.vm.uuid)
    if records is None or records.vm.state is not VmState.RUNNING:
        return Prospect.NOT_WANTED
    if records.actual.state is ActualState.ASTRAY:
        return Prospect.UNKNOWN
    return Prospect.COMES if freed.runs_on or records.actual.node is not None else Prospect.STAYS_DOWN
