"""`pvc storage volume`: the volumes of the cluster's pools. Talks to the tree only."""

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pvc.core.commands import CommandLine
from pvc.core.decide.devices import target_of
from pvc.core.devices import ending
from pvc.core.waiting import wait_for
from pvc.plugins.storage.commands.following import DETACHED, EXITS, TIMED_OUT, Timeout, Wait, follow
from pvc.plugins.storage.commands.shown import VOLUME_COLUMNS, volume_fields, volume_rows
from pvc.plugins.storage.commands.words import Yes, client_of, consent, pool_names, volume_names
from pvc.plugins.storage.decide.sizes import exactly, volume_size
from pvc.plugins.storage.records import Task, TaskPhase, Volume
from pvc.plugins.storage.requests import volumes as requests
from pvc.plugins.storage.requests.changing import Where
from pvc.plugins.storage.requests.ledger import find_pool, find_volume
from pvc.plugins.storage.tasks.growing import wished_by


class FileFormat(StrEnum):
    """What a volume is exported as."""

    QCOW2 = "qcow2"
    RAW = "raw"


SEEN_WITHIN = 60.0
"""Seconds that a VM which runs is waited for to see that its disk has grown."""

NewName = Annotated[str, typer.Argument(metavar="NEW", help="1 to 63 letters, digits, '.', '_' and '-'.")]
SizeText = Annotated[str, typer.Argument(metavar="SIZE", help="As 10G, 512M or 1.5TiB; powers of 1024, GB of 1000.")]
Shrink = Annotated[bool, typer.Option("--shrink", help="It may become smaller: what lies beyond is lost.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="A file of that node.")]


def add_commands(cli: CommandLine) -> None:
    """Add to the group `storage volume`."""
    _add_making(cli)
    _add_changing(cli)
    _add_files(cli)
    _add_listing(cli)


def _add_making(cli: CommandLine) -> None:
    group = cli.group("storage volume")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]

    @group.command("add")
    def add(pool: Pool, volume: NewName, size: SizeText, wait: Wait = True, timeout: Timeout = None) -> None:
        """Make an empty volume. It takes room only as it is written to, where the storage can do that."""
        client, wanted = client_of(cli), volume_size(size)
        task = requests.add(client, Where(pool, volume), wanted)
        if warning := requests.beyond(client, pool, wanted):
            cli.note(f"warning: {warning}")
        follow(cli, task, wait=wait, timeout=timeout)

    @group.command("clone")
    def clone(
        pool: Pool,
        volume: VolumeName,
        new: NewName,
        snapshot: Annotated[str | None, typer.Option(metavar="NAME", help="What it was at this snapshot.")] = None,
        wait: Wait = True,
        timeout: Timeout = None,
    ) -> None:
        """Make a volume with the contents of another one, which no VM may use meanwhile unless it is a snapshot."""
        follow(cli, requests.clone(client_of(cli), Where(pool, volume), new, snapshot), wait=wait, timeout=timeout)


def _add_changing(cli: CommandLine) -> None:
    group = cli.group("storage volume")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]

    @group.command("remove")
    def remove(
        pool: Pool,
        volume: VolumeName,
        snapshots: Annotated[bool, typer.Option("--snapshots", help="Its snapshots go with it.")] = False,
        yes: Yes = False,
        wait: Wait = True,
        timeout: Timeout = None,
    ) -> None:
        """Destroy a volume that no VM's definition names, and all that is in it."""
        sure = consent(cli, lambda found: _doomed(pool, found), yes=yes)
        task = requests.remove(client_of(cli), Where(pool, volume), snapshots=snapshots, consent=sure)
        follow(cli, task, wait=wait, timeout=timeout)

    @group.command("resize")
    def resize(
        pool: Pool,
        volume: VolumeName,
        size: SizeText,
        shrink: Annotated[
            bool, typer.Option("--shrink", help="It may become smaller: what lies beyond is lost.")
        ] = False,
        yes: Yes = False,
        wait: Wait = True,
        timeout: Timeout = None,
    ) -> None:
        """Give a volume another size; partitions and file systems in it stay as they are.

        A VM that runs with it sees the new size at once. What one could not be made to see is shown to it again if the
        same size is asked for once more.
        """
        client, wanted = client_of(cli), volume_size(size)
        sure = consent(cli, lambda found: _cut(pool, found, wanted), yes=yes)
        task = requests.resize(client, Where(pool, volume), wanted, shrink=shrink, consent=sure)
        if warning := requests.beyond(client, pool, wanted):
            cli.note(f"warning: {warning}")
        follow(cli, task, wait=wait, timeout=timeout)
        if wait:
            _see_grown(cli, task)

    @group.command("rename")
    def rename(pool: Pool, volume: VolumeName, new: NewName, wait: Wait = True, timeout: Timeout = None) -> None:
        """Give a volume that no VM's definition names another name."""
        follow(cli, requests.rename(client_of(cli), Where(pool, volume), new), wait=wait, timeout=timeout)


def _see_grown(cli: CommandLine, task: Task) -> None:
    """Wait until the VMs that run with the volume see its new size; ends the command if one does not."""
    for vm, change in wished_by(cli.connect(), task):
        what = f"{vm.name} is still to see the new size of {target_of(change.key)}"
        later = f"`pvc vm disk list {vm.name}` tells when it does"
        see = partial(ending, vm=vm, change=change)
        try:
            end = wait_for(cli.connect(), cli.runtime, see, SEEN_WITHIN)
        except KeyboardInterrupt:
            cli.fail(f"detached; {what}; {later}", DETACHED)
        if end is None:
            cli.fail(f"{what} after {SEEN_WITHIN:g} s; {later}", TIMED_OUT)
        if end.why:
            cli.fail(f"{what}: {end.why}", EXITS[TaskPhase.FAILED])
        if not end.at_next_start:
            cli.say(f"{vm.name} sees the new size of {target_of(change.key)}")


def _add_files(cli: CommandLine) -> None:
    group = cli.group("storage volume")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]
    At = Annotated[
        str | None,
        typer.Option(
            "--node", help="The node that FILE is on; default: this machine.", autocompletion=cli.complete_nodes
        ),
    ]

    @group.command("import")
    def import_file(
        pool: Pool, volume: NewName, file: File, node: At = None, wait: Wait = True, timeout: Timeout = None
    ) -> None:
        """Make a volume with the contents of a raw or qcow2 file."""
        task = requests.load(client_of(cli), Where(pool, volume), _path(cli, file, node), node)
        follow(cli, task, wait=wait, timeout=timeout)

    @group.command("export")
    def export_file(
        pool: Pool,
        volume: VolumeName,
        file: File,
        node: At = None,
        format: Annotated[FileFormat, typer.Option("--format", help="Of the file.")] = FileFormat.QCOW2,
        snapshot: Annotated[str | None, typer.Option(metavar="NAME", help="What it was at this snapshot.")] = None,
        wait: Wait = True,
        timeout: Timeout = None,
    ) -> None:
        """Write a volume to a new file; no VM may run on it meanwhile unless it is a snapshot."""
        client, path = client_of(cli), _path(cli, file, node)
        task: Task = requests.save(client, Where(pool, volume), path, node, format.value, snapshot)
        follow(cli, task, wait=wait, timeout=timeout)


def _add_listing(cli: CommandLine) -> None:
    group = cli.group("storage volume")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]
    Any_ = Annotated[str | None, typer.Argument(metavar="[POOL]", help="Only those of this pool.")]

    @group.command("list", listing=True)
    def list_volumes(pool: Any_ = None) -> None:
        """Show all volumes, and the VMs whose definitions name them."""
        coordinator = cli.connect()
        if pool is not None:
            find_pool(coordinator, pool)
        rows, unreadable = volume_rows(coordinator, pool)
        for name in unreadable:
            cli.note(f"pvc: the record of volume {name} cannot be read; repair it with zkCli.sh")
        cli.show(rows, VOLUME_COLUMNS)

    @group.command("info", listing=True)
    def info(pool: Pool, volume: VolumeName) -> None:
        """Show everything about one volume."""
        coordinator = cli.connect()
        find_pool(coordinator, pool)
        row: dict[str, Any] = volume_fields(coordinator, pool, find_volume(coordinator, pool, volume).volume)
        cli.show([row], list(row), one=True)


def _path(cli: CommandLine, file: str, node: str | None) -> str:
    """The file from the root, if it is one of this machine."""
    return str(Path(file).absolute()) if node in (None, cli.config.node) else file


def _doomed(pool: str, volume: Volume) -> str:
    snapshots = ", ".join(one.name for one in volume.snapshots)
    also = f" and its snapshots {snapshots}" if snapshots else ""
    return f"Destroy volume {pool}/{volume.name} ({exactly(volume.size)}){also}, with all that is in it?"


def _cut(pool: str, volume: Volume, size: int) -> str:
    lost = exactly(volume.size - size)
    return (
        f"Make volume {pool}/{volume.name} smaller, {exactly(size)} instead of {exactly(volume.size)}?"
        f" The last {lost} of its data are lost."
    )
