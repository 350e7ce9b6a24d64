"""`pvc node forget`: removes a node that is gone for good, once nothing depends on it any more."""

from typing import Annotated

import typer

from pvc.cli.application import Application
from pvc.core import keys
from pvc.core.coordination import Conflict, Coordinator, Delete, Op
from pvc.core.lookup import find_node
from pvc.core.model import Vm, VmActual
from pvc.core.records import Garbage, decode


def add_commands(cli: Application) -> None:
    """Add to the group `node`."""
    Name = Annotated[str, typer.Argument(metavar="NODE", help="The node.", autocompletion=cli.complete_nodes)]

    @cli.group("node").command("forget")
    def forget(
        name: Name,
        off: Annotated[
            bool, typer.Option("--off", help="Its machine is off, or was set up anew, since it was declared dead.")
        ] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    ) -> None:
        """Remove a node that is gone for good. Refused while it answers or VMs are assigned to it. VMs that have their
        home there keep running where they are. Of one that was declared dead, --off must say that its machine is."""
        coordinator = cli.connect()
        fence = find_node(coordinator, name).fence
        if fence is not None and not fence.returned and not off:
            cli.fail(
                f"{name} was declared dead and is not back: if its machine still runs, its VMs may write to disks of"
                " VMs that run elsewhere, and only as long as it is known is it kept out of further storage; see to"
                f" it that the machine is off, then `pvc node forget {name} --off`"
            )
        if coordinator.get(keys.node_session(name)) is not None:
            cli.fail(f"the daemon of {name} answers; stop it first")
        index = coordinator.children(keys.node_vms(name)) or ()
        if assigned := [vm for uuid in index if (vm := _assigned(coordinator, uuid, name))]:
            cli.fail(f"VMs are assigned to {name}; move or undefine them first: {', '.join(sorted(assigned))}")
        cli.confirm(f"Forget the node {name}?", yes=yes)
        try:
            coordinator.commit(_ops(coordinator, name, index))
        except Conflict as conflict:
            cli.fail(f"{name} has changed meanwhile ({conflict}); look again")
        cli.say(f"{name} is forgotten")
        for pool, addresses in ({} if fence is None else fence.cut).items():
            cli.say(
                f"pool {pool} goes on to keep out {', '.join(addresses)}; before another machine gets such an address,"
                " let it in with the storage's own tools (Ceph: `ceph osd blocklist rm ADDRESS:0/0`)"
            )


def _assigned(coordinator: Coordinator, uuid: str, node: str) -> str:
    """The name of a VM that is wanted on the node, or was last there; empty: the node only remembers it.

    What cannot be read counts as assigned.
    """
    wanted, actual = coordinator.get_many([keys.vm(uuid), keys.vm_actual(uuid)])
    if wanted is None or actual is None:
        return ""
    try:
        vm, lease = decode(Vm, wanted.data, keys.vm(uuid)), decode(VmActual, actual.data, keys.vm_actual(uuid))
    except Garbage:
        return uuid
    return vm.name if node in (vm.node, lease.node, lease.target) else ""


def _ops(coordinator: Coordinator, name: str, index: tuple[str, ...]) -> list[Op]:
    """The whole node and nothing else; fails if a VM was assigned to it or its daemon came back meanwhile."""
    below = [path(name) for path in (keys.node_operation, keys.node_forecast, keys.node_facts, keys.node_plugins)]
    known = [path for path, znode in zip(below, coordinator.get_many(below), strict=True) if znode is not None]
    return [
        *(Delete(keys.node_vm(name, uuid)) for uuid in index),
        *(Delete(path) for path in (*known, keys.node_vms(name), keys.node(name))),
    ]
