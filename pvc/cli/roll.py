"""`pvc cluster roll`: what was asked for, and who may go on with it. The work itself is done by `rolling.py`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NoReturn

import typer

from pvc.cli.application import Application
from pvc.cli.exits import DETACHED, FAILED, USAGE
from pvc.cli.operation import DEADLINE
from pvc.cli.recovery import others_out, see
from pvc.cli.rolling import Rolling, Stopped
from pvc.core import keys
from pvc.core.commands import when
from pvc.core.coordination import Coordinator
from pvc.core.decide.roll import doing, out_of_service, resumed, standing
from pvc.core.errors import PvcError
from pvc.core.lookup import NotFound, all_nodes
from pvc.core.process import SystemProcesses
from pvc.core.rolls import (
    Driver,
    HeldRoll,
    Roll,
    RollExists,
    RollNode,
    RollOptions,
    RollState,
    RollTaken,
    forget_roll,
    read_driver,
    read_roll,
)
from pvc.core.waiting import wait_for

AGAIN = "`pvc cluster roll --resume` goes on, `pvc cluster roll --abandon` forgets it"
GRACE = 5.0
"""Seconds beyond a session's time that the traces of a dead client may last."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a new roll was asked to be; None: as usual."""

    nodes: tuple[str, ...] = ()
    command: str | None = None
    pause: bool = False
    reason: str = ""
    parallel: int | None = None
    deadline: float | None = None
    health_timeout: float | None = None
    settle: float | None = None
    reboots: bool = False
    force: bool = False

    def options(self) -> RollOptions:
        """As they are recorded."""
        usual = RollOptions(deadline=DEADLINE)
        return RollOptions(
            command=self.command,
            reason=self.reason,
            parallel=self.parallel,
            deadline=usual.deadline if self.deadline is None else self.deadline,
            health_timeout=usual.health_timeout if self.health_timeout is None else self.health_timeout,
            settle=usual.settle if self.settle is None else self.settle,
            reboots=self.reboots,
            force=self.force,
        )


def add_commands(cli: Application) -> None:
    """Add the group `cluster`."""
    group = cli.group("cluster")
    Nodes = Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE,NODE",
            help="These, in this order; default: every hypervisor in service, by name.",
            autocompletion=cli.complete_nodes,
        ),
    ]
    Run = Annotated[
        str | None,
        typer.Option(metavar="CMD", help="A shell command, run here for each node: $PVC_NODE, $PVC_NODE_ADDRESS."),
    ]
    Pause = Annotated[bool, typer.Option("--pause", help="Instead of a command: wait for Enter.")]
    Reason = Annotated[str, typer.Option(help="Why; stored and shown to others.")]
    Parallel = Annotated[int | None, typer.Option(min=1, help="Moves at a time; default: as each node is configured.")]
    Deadline = Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help=f"How long one flush or unflush may take (default: {DEADLINE:g})."),
    ]
    Health = Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="How long it may take a node to be well again (default: 1800)."),
    ]
    Settle = Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="How long it must be well without a break (default: 15)."),
    ]
    Reboots = Annotated[bool, typer.Option("--reboots", help="The command reboots the node: wait for that, too.")]
    Force = Annotated[bool, typer.Option("--force", help="Roll though other nodes are out of service.")]
    Resume = Annotated[bool, typer.Option("--resume", help="Go on with the unfinished roll.")]
    Abandon = Annotated[bool, typer.Option("--abandon", help="Forget it; changes nothing on the nodes.")]
    DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
    Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; repeat a command that is in doubt.")]

    @group.command("roll")
    def roll(
        nodes: Nodes = None,
        run: Run = None,
        pause: Pause = False,
        reason: Reason = "",
        parallel: Parallel = None,
        deadline: Deadline = None,
        health_timeout: Health = None,
        settle: Settle = None,
        reboots: Reboots = False,
        force: Force = False,
        resume: Resume = False,
        abandon: Abandon = False,
        dry_run: DryRun = False,
        yes: Yes = False,
    ) -> None:
        """Flush each node, run a command (or wait for you), wait until it is well, unflush it: one after the other."""
        names = tuple(name for text in nodes or () for name in text.split(",") if name)
        asked = Asked(names, run, pause, reason, parallel, deadline, health_timeout, settle, reboots, force)
        if (resume or abandon) and (asked != Asked(force=force and resume) or dry_run or (resume and abandon)):
            cli.fail("a roll keeps its options: --resume takes --force and --yes, --abandon takes none", USAGE)
        if resume:
            _resume(cli, force=force, yes=yes)
        elif abandon:
            _abandon(cli)
        elif (run is None) != pause:
            cli.fail("say either --run CMD or --pause", USAGE)
        else:
            _begin(cli, asked, dry_run=dry_run, yes=yes)


def _begin(cli: Application, asked: Asked, *, dry_run: bool, yes: bool) -> None:
    coordinator, options = cli.connect(), asked.options()
    _refuse_second(cli, coordinator)
    names = list(dict.fromkeys(asked.nodes)) or _in_service(cli, coordinator)
    _refuse_unfit(cli, coordinator, names, force=options.force)
    _describe(cli, coordinator, names, options)
    if dry_run:
        return
    _demand_person(cli, options)
    cli.confirm(f"Roll over {_count(len(names))}?", yes=yes)
    now = cli.runtime.now()
    nodes = tuple(RollNode(name, since=now) for name in names)
    held = _held(cli)
    try:
        held.begin(Roll(cli.runtime.new_id(), cli.user, now, options, nodes))
    except RollExists:
        _refuse_second(cli, coordinator)
        raise
    _drive(cli, held, yes=yes)


def _refuse_second(cli: Application, coordinator: Coordinator) -> None:
    found = read_roll(coordinator)
    if found is None:
        return
    roll, driver = found[0], read_driver(coordinator)
    driven = f"driven by {driver[0].by}, process {driver[0].pid}" if driver else "nobody drives it now"
    cli.fail(f"a roll by {roll.by} since {when(roll.began)} is at {standing(roll)}; {driven}; {AGAIN}", FAILED)


def _in_service(cli: Application, coordinator: Coordinator) -> list[str]:
    hypervisors = [node.name for node in all_nodes(coordinator)[0] if "hypervisor" in node.roles]
    names = [name for name in hypervisors if not out_of_service(see(coordinator, name))]
    if not names:
        cli.fail("there is no node to roll over; `pvc node list` shows them all")
    return names


def _refuse_unfit(cli: Application, coordinator: Coordinator, names: Sequence[str], *, force: bool) -> None:
    """Refuse, before anything moves, with every reason."""
    problems = []
    for name in names:
        try:
            problems.append(out_of_service(see(coordinator, name)))
        except NotFound as error:
            problems.append(str(error))
    out = others_out(coordinator, names)
    if force and out:
        cli.note(f"other nodes are out of service: {'; '.join(out)}")
    elif out:
        problems += [f"{why} (--force rolls over the others all the same)" for why in out]
    if any(problems):
        cli.fail("\n     ".join(["nothing was begun:", *filter(None, problems)]))


def _describe(cli: Application, coordinator: Coordinator, names: Sequence[str], options: RollOptions) -> None:
    what = "wait for you" if options.command is None else f"run {options.command}"
    for number, name in enumerate(names, 1):
        vms = len(coordinator.children(keys.node_vms(name)) or ())
        guests = "1 VM" if vms == 1 else f"{vms} VMs"
        cli.say(f"{number}. {name}: flush ({guests} now), {what}, wait until it is well, unflush")


def _demand_person(cli: Application, options: RollOptions) -> None:
    if options.command is None and not sys.stdin.isatty():
        cli.fail("--pause needs somebody at a terminal to press Enter; use --run in a script")


def _resume(cli: Application, *, force: bool, yes: bool) -> None:
    coordinator = cli.connect()
    _outwait_driver(cli, coordinator)
    found = read_roll(coordinator)
    if found is None:
        cli.fail("there is no unfinished roll")
    roll, znode = found
    _demand_person(cli, roll.options)
    cli.say(f"going on with the roll by {roll.by} since {when(roll.began)}: {standing(roll)}")
    new = resumed(roll)
    held = _held(cli)
    held.take(roll, znode.version, replace(new, options=replace(new.options, force=new.options.force or force)))
    _drive(cli, held, yes=yes)


def _outwait_driver(cli: Application, coordinator: Coordinator) -> None:
    """Give a client that has just died the time in which its session ends. Raises RollTaken naming one that lives."""
    driver = read_driver(coordinator)
    if driver is None:
        return
    who, patience = f"{driver[0].by}, process {driver[0].pid}", cli.config.zookeeper.session_timeout + GRACE
    cli.note(f"the roll is driven by {who}; waiting {patience:g} s in case that client is dead")
    gone = wait_for(coordinator, cli.runtime, lambda mirror: mirror.get(keys.roll_driver()) is None or None, patience)
    if gone is None:
        raise RollTaken(f"the roll is driven by {who}, which is alive; end that client first")


def _abandon(cli: Application) -> None:
    coordinator = cli.connect()
    _outwait_driver(cli, coordinator)
    found = read_roll(coordinator)
    if found is None:
        cli.fail("there is no unfinished roll")
    roll, znode = found
    left = [_left_as(coordinator, entry) for entry in roll.nodes]
    forget_roll(coordinator, znode)
    cli.say(f"the roll by {roll.by} since {when(roll.began)} is forgotten; nothing was changed on the nodes")
    for entry, how in zip(roll.nodes, left, strict=True):
        cli.say(f"{entry.name}: {doing(roll, entry)}{how}")


def _left_as(coordinator: Coordinator, entry: RollNode) -> str:
    """What is to be said of a node that a roll leaves behind, judged by the cluster."""
    try:
        why = out_of_service(see(coordinator, entry.name))
    except PvcError as error:
        return f"; {error}"
    if not why or entry.state in (RollState.WAITING, RollState.DONE):
        return f"; {why}" if why else ""
    return f"; {why}: take it back with `pvc node unflush {entry.name}`"


def _held(cli: Application) -> HeldRoll:
    return HeldRoll(cli.connect(), cli.runtime, Driver(cli.user, os.getpid()))


def _drive(cli: Application, held: HeldRoll, *, yes: bool) -> None:
    try:
        Rolling(cli, held, SystemProcesses(), yes=yes).run()
    except Stopped as stopped:
        _close(cli, held.roll, f"stopped: {stopped}", stopped.code)
    except KeyboardInterrupt:
        _close(cli, held.roll, "detached; a flush or unflush that was asked for goes on", DETACHED)
    except RollTaken:
        raise
    except PvcError as error:
        _close(cli, held.roll, f"stopped: {error}", FAILED)
    took = cli.runtime.now() - held.roll.began
    cli.say(f"the roll is done: {_count(len(held.roll.nodes))} in {_lasting(took)}")


def _close(cli: Application, roll: Roll, what: str, code: int) -> NoReturn:
    """End with the sentence that says where the roll stands and how to go on."""
    current = next((entry for entry in roll.nodes if entry.state is not RollState.DONE), roll.nodes[-1])
    place = f"{current.name} ({roll.nodes.index(current) + 1} of {len(roll.nodes)}, {doing(roll, current)})"
    cli.fail(f"the roll is at {place}: {what}; {AGAIN}", code)


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def _lasting(seconds: float) -> str:
    """A length of time for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
