"""`pvc vm`: defining, running and moving VMs. Talks to the tree only; imports no hypervisor."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pvc.core import keys
from pvc.core.commands import CommandLine, Moment
from pvc.core.config.overrides import checked, per_vm_keys
from pvc.core.coordination import Coordinator
from pvc.core.lookup import all_vms, demand_role, find_node, find_vm
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, Policy, Vm, VmActual, VmState
from pvc.core.records import Garbage, decode
from pvc.core.waiting import wait_for
from pvc.plugins.hypervisor import requests
from pvc.plugins.hypervisor.decide.definition import LARGEST, BadDefinition, read_definition
from pvc.plugins.hypervisor.decide.placement import ROLE
from pvc.plugins.hypervisor.records import VmRecords, read_vm
from pvc.plugins.hypervisor.settings import PlacementSettings, settings_from

COLUMNS = ("name", "state", "node", "wanted", "home", "policy", "memory", "vcpus", "reason")
USAGE = 2
"""The command line makes no sense; the code that Typer uses."""
TIMED_OUT = 6
"""The wait ended before the thing waited for did; the same code as for operations."""

Verdict = str | None
"""What a wait has found: None for nothing yet, "" for what was hoped for, else why it will not come."""


def add_commands(cli: CommandLine) -> None:
    """Add to the group `vm`."""
    _add_definitions(cli)
    _add_settings(cli)
    _add_listing(cli)
    _add_running(cli)
    _add_moving(cli)


def _add_definitions(cli: CommandLine) -> None:
    group = cli.group("vm")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]

    @group.command("define")
    def define(
        file: Annotated[
            Path,
            typer.Argument(metavar="FILE", help="libvirt domain XML with name, uuid, memory and vcpu; - for stdin."),
        ],
        node: Annotated[
            str | None, typer.Option(help="Where it belongs; default: most room.", autocompletion=cli.complete_nodes)
        ] = None,
        policy: Annotated[Policy, typer.Option(help="What a flush may do to it.")] = Policy.LIVE,
        limit: Annotated[list[str] | None, typer.Option("--limit", help="Only run on this node; repeatable.")] = None,
        spread: Annotated[str | None, typer.Option(help="Keep apart from other VMs of this group.")] = None,
        settings: Annotated[
            list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As with `pvc vm set`; repeatable.")
        ] = None,
    ) -> None:
        """Make a VM known to the cluster. It is not started."""
        definition = read_definition(_read(file))
        vm = requests.define(
            cli.connect(),
            definition,
            node,
            policy=policy,
            nodes=tuple(limit or ()),
            spread=spread,
            options=_options(cli, settings or ()),
            needs=cli.vm_needs(definition.xml),
            judge=cli.verdicts,
        )
        cli.say(f"{vm.name} is defined on {vm.node}; start it with `pvc vm start {vm.name}`")

    @group.command("undefine")
    def undefine(
        name: Name,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask, and power it off if it runs.")] = False,
    ) -> None:
        """Make the cluster forget a VM, its console log included. Asks before it powers a running one off."""
        coordinator = cli.connect()
        vm = find_vm(coordinator, name)
        if _must_be_stopped(coordinator, vm):
            cli.confirm(f"{vm.name} is not stopped. Power it off and forget it?", yes=yes)
            requests.stop(coordinator, vm, now=True)
            _await(cli, vm, _is_stopped, 60.0, "stopped")
        else:
            cli.confirm(f"Forget {vm.name}?", yes=yes)
        requests.undefine(coordinator, vm)
        cli.say(f"{vm.name} is forgotten")


def _add_settings(cli: CommandLine) -> None:
    group = cli.group("vm")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]
    keys = _complete_keys(cli)
    Set = Annotated[list[str], typer.Argument(metavar="KEY=VALUE", help="As in pvc.yaml, dotted.", autocompletion=keys)]
    Unset = Annotated[list[str], typer.Argument(metavar="KEY", help="As in pvc.yaml, dotted.", autocompletion=keys)]

    @group.command("set")
    def set_options(name: Name, settings: Set) -> None:
        """Give a VM settings of its own, by their keys in pvc.yaml. A move in flight goes on as it began."""
        options = _options(cli, settings)
        vm = requests.set_options(cli.connect(), find_vm(cli.connect(), name), options)
        cli.say(f"{vm.name}: {', '.join(f'{key}={json.dumps(vm.options[key])}' for key in options)}")

    @group.command("unset")
    def unset_options(name: Name, settings: Unset) -> None:
        """Take settings of its own from a VM: those of the node that runs it hold again."""
        vm = requests.unset_options(cli.connect(), find_vm(cli.connect(), name), settings)
        cli.say(f"{vm.name} has no {', '.join(settings)} of its own any more")

    @group.command("modify")
    def modify(
        name: Name,
        policy: Annotated[Policy | None, typer.Option(help="What a flush may do to it.")] = None,
        limit: Annotated[
            list[str] | None,
            typer.Option(
                "--limit",
                help="Only run on this node; repeatable; replaces them all.",
                autocompletion=cli.complete_nodes,
            ),
        ] = None,
        no_limit: Annotated[bool, typer.Option("--no-limit", help="Run on any node.")] = False,
        spread: Annotated[str | None, typer.Option(help="Keep apart from other VMs of this group.")] = None,
        no_spread: Annotated[bool, typer.Option("--no-spread", help="Keep apart from none.")] = False,
    ) -> None:
        """Change a VM's policy, limits and spread group. It is not moved by that."""
        if (limit and no_limit) or (spread is not None and no_spread):
            cli.fail("an option and its opposite: say one of them", USAGE)
        if policy is None and not limit and spread is None and not no_limit and not no_spread:
            cli.fail("nothing to change; `pvc vm modify --help` shows what can be", USAGE)
        nodes = () if no_limit else tuple(dict.fromkeys(limit)) if limit else None
        old = find_vm(cli.connect(), name)
        vm = requests.modify(
            cli.connect(),
            old,
            policy=policy,
            nodes=nodes,
            spread=spread,
            apart=not no_spread,
            needs=_needs_now(cli, old),
        )
        cli.say(f"{vm.name}: policy {vm.policy.value}, limit {', '.join(vm.nodes) or '-'}, spread {vm.spread or '-'}")
        if vm.nodes and vm.node not in vm.nodes:
            cli.note(f"pvc: it stays on {vm.node}, which is none of these, until it is moved: `pvc vm move {vm.name}`")


def _add_listing(cli: CommandLine) -> None:
    group = cli.group("vm")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]

    @group.command("list", listing=True)
    def list_vms(
        node: Annotated[
            str | None, typer.Option(help="Only those on this node.", autocompletion=cli.complete_nodes)
        ] = None,
    ) -> None:
        """Show all VMs."""
        coordinator = cli.connect()
        named = None if node is None else find_node(coordinator, node)
        vms, garbage = all_vms(coordinator)
        for error in garbage:
            cli.note(f"pvc: {error}")
        alive = _live_nodes(coordinator)
        rows = [_row(vm, actual, alive) for vm, actual in zip(vms, _actuals(coordinator, vms), strict=True)]
        if named is not None:
            rows = [row for row in rows if node in (row["node"], row["assigned"])]
            if not rows:  # nothing is no answer for a node that never has any
                demand_role(coordinator, named, ROLE)
        cli.show(rows, COLUMNS)

    @group.command("info", listing=True)
    def info(name: Name) -> None:
        """Show everything about one VM."""
        coordinator = cli.connect()
        vm = find_vm(coordinator, name)
        row = _row(vm, _actuals(coordinator, [vm])[0], _live_nodes(coordinator))
        cli.show([row], list(row), one=True)

    @group.command("dump")
    def dump(name: Name) -> None:
        """Print the libvirt XML that a VM is defined by."""
        coordinator = cli.connect()
        vm = find_vm(coordinator, name)
        znode = coordinator.get(keys.vm_xml(vm.uuid))
        cli.say(znode.data.decode(errors="replace").rstrip() if znode else "")


def _add_running(cli: CommandLine) -> None:
    group = cli.group("vm")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]
    Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is so.")]
    Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")]

    @group.command("start")
    def start(name: Name, wait: Wait = True, timeout: Timeout = 60.0) -> None:
        """Start a VM."""
        vm = requests.start(cli.connect(), find_vm(cli.connect(), name), _placement(cli), cli.verdicts)
        _await_if(cli, wait, vm, _is_running, timeout, "running")

    @group.command("shutdown")
    def shutdown(name: Name, wait: Wait = True, timeout: Timeout = 180.0) -> None:
        """Have a VM's guest shut down."""
        vm = requests.stop(cli.connect(), find_vm(cli.connect(), name), now=False)
        _await_if(cli, wait, vm, _is_stopped, timeout, "stopped")

    @group.command("stop")
    def stop(
        name: Name,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
        wait: Wait = True,
        timeout: Timeout = 60.0,
    ) -> None:
        """Power a VM off, without asking its guest."""
        vm = find_vm(cli.connect(), name)
        if _must_be_stopped(cli.connect(), vm):
            cli.confirm(f"Power {vm.name} off without asking its guest?", yes=yes)
        vm = requests.stop(cli.connect(), vm, now=True)
        _await_if(cli, wait, vm, _is_stopped, timeout, "stopped")

    @group.command("restart")
    def restart(name: Name, wait: Wait = True, timeout: Timeout = 240.0) -> None:
        """Have a VM's guest shut down, and start it again."""
        vm = requests.restart(cli.connect(), find_vm(cli.connect(), name))
        _await_if(cli, wait, vm, _is_running, timeout, "running")


def _add_moving(cli: CommandLine) -> None:
    group = cli.group("vm")
    Name = Annotated[str, typer.Argument(metavar="VM", help="Name or UUID.", autocompletion=cli.complete_vms)]
    Target = Annotated[
        str | None,
        typer.Argument(metavar="NODE", help="The node; default: most room.", autocompletion=cli.complete_nodes),
    ]
    Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is so.")]
    Timeout = Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait.")]

    @group.command("move")
    def move(name: Name, target: Target = None, wait: Wait = True, timeout: Timeout = 600.0) -> None:
        """Move a VM for good: the node it goes to is its new home."""
        vm = _send(cli, name, target, keep_home=False)
        _await_if(cli, wait, vm, _is_on(vm.node), timeout, f"on {vm.node}")

    @group.command("migrate")
    def migrate(name: Name, target: Target = None, wait: Wait = True, timeout: Timeout = 600.0) -> None:
        """Move a VM for a while: it remembers its home."""
        vm = _send(cli, name, target, keep_home=True)
        _await_if(cli, wait, vm, _is_on(vm.node), timeout, f"on {vm.node}")

    @group.command("unmigrate")
    def unmigrate(name: Name, wait: Wait = True, timeout: Timeout = 600.0) -> None:
        """Bring a VM back to its home."""
        vm = requests.send_home(cli.connect(), find_vm(cli.connect(), name), cli.verdicts)
        _await_if(cli, wait, vm, _is_on(vm.node), timeout, f"on {vm.node}")


def _send(cli: CommandLine, name: str, target: str | None, *, keep_home: bool) -> Vm:
    coordinator = cli.connect()
    return requests.send(
        coordinator,
        find_vm(coordinator, name),
        target,
        keep_home=keep_home,
        placement=_placement(cli),
        judge=cli.verdicts,
    )


def _placement(cli: CommandLine) -> PlacementSettings:
    """How a node is chosen when none is named."""
    return settings_from(cli.config.section("hypervisor")).placement


def _await_if(
    cli: CommandLine, wait: bool, vm: Vm, judge: Callable[[VmRecords], Verdict], timeout: float, hoped: str
) -> None:
    if wait:
        _await(cli, vm, judge, timeout, hoped)
    cli.say(f"{vm.name} is {hoped}" if wait else f"{vm.name} is to be {hoped}")


def _await(cli: CommandLine, vm: Vm, judge: Callable[[VmRecords], Verdict], timeout: float, hoped: str) -> None:
    """Wait for a verdict on the VM; ends the command unless it is what was hoped for."""

    def look(mirror: Mirror) -> Verdict:
        records = read_vm(mirror, vm.uuid)
        if records is None:
            return "it is not defined any more"
        holder = records.actual.node
        if holder is not None and mirror.get(keys.node_session(holder)) is None:
            return f"the daemon of {holder}, where it was last, does not answer; it may still run there"
        return judge(records)

    try:
        verdict = wait_for(cli.connect(), cli.runtime, look, timeout)
    except KeyboardInterrupt:
        cli.fail(f"detached; {vm.name} is still to be {hoped}, see `pvc vm info {vm.name}`", 130)
    if verdict is None:
        cli.fail(f"{vm.name} is not {hoped} after {timeout:g} s; `pvc vm info {vm.name}` shows how it is", TIMED_OUT)
    if verdict:
        cli.fail(f"{vm.name} is not {hoped}: {verdict}")


def _is_running(records: VmRecords) -> Verdict:
    vm, actual = records.vm, records.actual
    if vm.state is VmState.STOPPED:
        return actual.reason or "somebody stopped it"
    if actual.generation < vm.generation and actual.state is not ActualState.RUNNING:
        return None
    if actual.state is ActualState.FAILED:
        return actual.reason
    return "" if actual.state is ActualState.RUNNING and actual.restart >= vm.restart else None


def _is_stopped(records: VmRecords) -> Verdict:
    if records.vm.state is VmState.RUNNING:
        return "somebody started it again"
    return "" if records.actual.state is ActualState.STOPPED else None


def _is_on(node: str) -> Callable[[VmRecords], Verdict]:
    def judge(records: VmRecords) -> Verdict:
        vm, actual = records.vm, records.actual
        if vm.node != node:
            return actual.failed_move or f"somebody sent it to {vm.node}"
        if actual.node == node:
            return "" if actual.state is ActualState.RUNNING else None
        return "" if actual.node is None and vm.state is VmState.STOPPED else None

    return judge


def _needs_now(cli: CommandLine, vm: Vm) -> Mapping[str, tuple[str, ...]] | None:
    """What the VM's definition needs of the roles that there are by now; None: it has no definition."""
    xml = cli.connect().get(keys.vm_xml(vm.uuid))
    return None if xml is None else cli.vm_needs(xml.data.decode(errors="replace"))


def _must_be_stopped(coordinator: Coordinator, vm: Vm) -> bool:
    records = read_vm(coordinator, vm.uuid)
    return records is not None and (
        records.actual.state is not ActualState.STOPPED or records.vm.state is not VmState.STOPPED
    )


def _options(cli: CommandLine, settings: Sequence[str]) -> dict[str, Any]:
    """The values of KEY=VALUE, checked. Raises BadOption."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key in found:
            cli.fail(f"{setting}: write KEY=VALUE, each key once", USAGE)
        found[key] = checked(cli.schemas, key, text)
    return found


def _complete_keys(cli: CommandLine) -> Callable[[str], list[str]]:
    """Shell completion of the keys that one VM can have set."""

    def complete(incomplete: str) -> list[str]:
        return [key for key in per_vm_keys(cli.schemas) if key.startswith(incomplete)]

    return complete


def _read(file: Path) -> str:
    """The text of a file, or of standard input. Raises BadDefinition."""
    try:
        if str(file) == "-":
            return typer.get_text_stream("stdin").read(LARGEST + 1)
        with file.open(encoding="utf-8") as stream:
            return stream.read(LARGEST + 1)
    except OSError as error:
        raise BadDefinition(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadDefinition(f"{file} is not UTF-8 text; is it the right file?") from error


def _actuals(coordinator: Coordinator, vms: list[Vm]) -> list[VmActual | None]:
    paths = [keys.vm_actual(vm.uuid) for vm in vms]
    found: list[VmActual | None] = []
    for path, znode in zip(paths, coordinator.get_many(paths), strict=True):
        try:
            found.append(None if znode is None else decode(VmActual, znode.data, path))
        except Garbage:
            found.append(None)
    return found


def _live_nodes(coordinator: Coordinator) -> set[str]:
    names = coordinator.children(keys.NODES) or ()
    sessions = coordinator.get_many([keys.node_session(name) for name in names])
    return {name for name, session in zip(names, sessions, strict=True) if session is not None}


def _reason(actual: VmActual | None, alive: set[str]) -> str:
    if actual is None:
        return "its record cannot be read"
    if actual.node is not None and actual.node not in alive:
        return f"the daemon of {actual.node} does not answer: this is what was last known"
    return actual.failed_move or actual.reason


def _row(vm: Vm, actual: VmActual | None, alive: set[str]) -> dict[str, Any]:
    return {
        "name": vm.name,
        "state": actual.state if actual else "unreadable",
        "node": actual.node if actual and actual.node else None,
        "target": actual.target if actual else None,
        "wanted": vm.state,
        "assigned": vm.node,
        "home": vm.home,
        "policy": vm.policy,
        "memory": vm.memory,
        "vcpus": vm.vcpus,
        "limit": list(vm.nodes),
        "spread": vm.spread,
        "options": dict(vm.options),
        "needs": {role: list(things) for role, things in vm.needs.items()},
        "since": Moment(actual.since) if actual and actual.since else None,
        "node_alive": actual.node in alive if actual and actual.node else None,
        "reason": _reason(actual, alive),
        "uuid": vm.uuid,
    }
