"""`pvc storage status` and `pvc storage pool`: the cluster's pools. Talks to the tree only."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pvc.core import keys as core
from pvc.core.commands import CommandLine
from pvc.core.lookup import read_facts
from pvc.core.mirror import Mirror
from pvc.core.waiting import wait_for
from pvc.plugins.storage.ceph.shown import ceph_rows
from pvc.plugins.storage.commands.following import Timeout, Wait, follow
from pvc.plugins.storage.commands.shown import POOL_COLUMNS, finding_rows, pool_fields, pool_rows, task_fields
from pvc.plugins.storage.commands.words import Yes, client_of, pool_names
from pvc.plugins.storage.decide.pooloptions import DIRECTORY
from pvc.plugins.storage.decide.pools import published_in
from pvc.plugins.storage.records import in_hand
from pvc.plugins.storage.requests import pools as poolrequests
from pvc.plugins.storage.requests.ledger import find_pool, read_nodes

USAGE = 2
"""The command line makes no sense; the code that Typer uses."""
SEEN = 30.0
"""Seconds until every node with the role should have looked at a new pool."""
NAMED = 3
"""Volumes that a question names."""
SHOWN = ("id", "what", "node", "phase", "standing")

NewName = Annotated[str, typer.Argument(metavar="NEW", help="1 to 63 letters, digits, '.', '_' and '-'.")]
Backend = Annotated[str, typer.Option(metavar="KIND", help="directory, ceph, or one that a plugin brings.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="For the backend; repeatable.")
]
Path = Annotated[str | None, typer.Option(metavar="DIRECTORY", help="Where a directory pool is, on every node.")]
Format = Annotated[str | None, typer.Option(metavar="qcow2|raw", help="Of the images of a directory pool.")]
RbdPool = Annotated[str | None, typer.Option("--rbd-pool", metavar="NAME", help="Of a ceph pool; default: its name.")]
Gone = Annotated[bool, typer.Option("--lost", help="Its storage is gone for good: forget its volumes as well.")]
User = Annotated[str | None, typer.Option(metavar="NAME", help="Ceph client of VMs, without `client.`.")]


def add_status(cli: CommandLine) -> None:
    """Add to the group `storage`."""

    @cli.group("storage").command("status", listing=True)
    def status() -> None:
        """Show pools, what is under way in them, and what needs attention."""
        coordinator = cli.connect()
        row: dict[str, Any] = {
            "pools": _known_pools(cli),
            "ceph": ceph_rows(coordinator),
            "tasks": [{name: task_fields(task)[name] for name in SHOWN} for task in in_hand(coordinator)],
            "findings": finding_rows(coordinator),
        }
        cli.show([row], list(row), one=True)


def add_commands(cli: CommandLine) -> None:
    """Add to the group `storage pool`."""
    _add_changing(cli)
    group = cli.group("storage pool")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]

    @group.command("list", listing=True)
    def list_pools() -> None:
        """Show all pools, how full they are, and which nodes can use them."""
        cli.show(_known_pools(cli), POOL_COLUMNS)

    @group.command("info", listing=True)
    def info(pool: Pool) -> None:
        """Show everything about one pool."""
        coordinator = cli.connect()
        row = pool_fields(coordinator, find_pool(coordinator, pool))
        cli.show([row], list(row), one=True)


def _add_changing(cli: CommandLine) -> None:
    group = cli.group("storage pool")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    By = Annotated[
        str | None,
        typer.Option("--node", help="Which one looks first; default: any.", autocompletion=cli.complete_nodes),
    ]

    @group.command("add")
    def add(
        name: NewName,
        backend: Backend = DIRECTORY,
        option: Options = None,
        path: Path = None,
        format: Format = None,
        rbd_pool: RbdPool = None,
        user: User = None,
        node: By = None,
        wait: Wait = True,
        timeout: Timeout = None,
    ) -> None:
        """Make a pool of a place that exists, once a node has seen that it can be used."""
        short = {"path": path, "format": format, "pool": rbd_pool, "user": user}
        options = _options(cli, option or [], {key: value for key, value in short.items() if value is not None})
        task = poolrequests.add(client_of(cli), name, backend, options, node)
        follow(cli, task, wait=wait, timeout=timeout)
        if wait:
            _await_nodes(cli, name)

    @group.command("remove")
    def remove(pool: Pool, lost: Gone = False, yes: Yes = False) -> None:
        """Forget a pool that has no volumes. What else is in its place stays there."""
        client = client_of(cli)
        if lost:
            poolrequests.remove_lost(client, pool, lambda *what: cli.confirm(_lost(pool, *what), yes=yes))
            cli.say(f"pool {pool} and its volumes are forgotten; tasks in it end as failed")
            return
        found = poolrequests.demand_empty(client, pool)
        cli.confirm(f"Forget pool {pool} ({found.backend})? What is in its place stays there.", yes=yes)
        poolrequests.remove(client, pool)
        cli.say(f"pool {pool} is forgotten; what is in its place stays there")


def _lost(pool: str, backend: str, volumes: Sequence[str]) -> str:
    some = ", ".join(volumes[:NAMED]) + (", ..." if len(volumes) > NAMED else "")
    what = f" and its {len(volumes)} volumes ({some})" if volumes else ""
    return f"No node can use pool {pool} ({backend}) now. Forget it{what} for good?"


def _await_nodes(cli: CommandLine, pool: str) -> None:
    """Wait until every node with the role has looked at a pool that has just been made, and say what they found:
    whoever wants a volume at once needs a node that can make it."""
    coordinator = cli.connect()
    nodes = [node.name for node, facts in read_nodes(coordinator) if facts is not None]

    def look(mirror: Mirror) -> dict[str, str] | None:
        living = [node for node in nodes if mirror.get(core.node_session(node)) is not None]
        seen = {node: published_in(read_facts(mirror, node)).get(pool) for node in living}
        known = {node: state.problem for node, state in seen.items() if state is not None}
        return known if len(known) == len(living) else None

    found = wait_for(coordinator, cli.runtime, look, SEEN)
    if found is None:
        cli.note(f"warning: some nodes have not looked at it after {SEEN:g} s; see `pvc storage pool info {pool}`")
        return
    for node, why in found.items():
        if why:
            cli.note(f"warning: {node} cannot use pool {pool}: {why}")
    cli.say(f"pool {pool} can be used on {', '.join(node for node, why in found.items() if not why) or 'no node'}")


def _options(cli: CommandLine, said: list[str], short: dict[str, str]) -> dict[str, str]:
    options = dict(short)
    for text in said:
        key, equals, value = text.partition("=")
        if not equals or not key:
            cli.fail(f"--option {text!r} is not KEY=VALUE", USAGE)
        if key in options:
            cli.fail(f"option {key} is said twice; say it once", USAGE)
        options[key] = value
    return options


def _known_pools(cli: CommandLine) -> list[dict[str, Any]]:
    rows, lost = pool_rows(cli.connect())
    for name in lost:
        cli.note(f"pvc: the record of pool {name} cannot be read; repair it with zkCli.sh")
    return rows
