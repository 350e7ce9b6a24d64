"""`pvc storage snapshot`: what volumes held at some moment. Talks to the tree only."""

from typing import Annotated

import typer

from pvc.core.commands import CommandLine, Moment, Size, when
from pvc.plugins.storage.commands.following import Timeout, Wait, follow
from pvc.plugins.storage.commands.words import Yes, client_of, consent, pool_names, volume_names
from pvc.plugins.storage.decide.sizes import exactly
from pvc.plugins.storage.records import Volume
from pvc.plugins.storage.requests import snapshots as snapshotrequests
from pvc.plugins.storage.requests.changing import Where
from pvc.plugins.storage.requests.ledger import find_pool, find_snapshot, find_volume

COLUMNS = ("name", "created", "size", "protected")

Name = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot.")]
NewName = Annotated[str, typer.Argument(metavar="NEW", help="1 to 63 letters, digits, '.', '_' and '-'.")]


def add_commands(cli: CommandLine) -> None:
    """Add to the group `storage snapshot`."""
    _add_keeping(cli)
    _add_losing(cli)
    group = cli.group("storage snapshot")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]

    @group.command("list", listing=True)
    def list_snapshots(pool: Pool, volume: VolumeName) -> None:
        """Show the snapshots of a volume, oldest first."""
        coordinator = cli.connect()
        find_pool(coordinator, pool)
        found = find_volume(coordinator, pool, volume).volume
        rows = [
            {"name": one.name, "created": Moment(one.created), "size": Size(one.size), "protected": one.protected}
            for one in sorted(found.snapshots, key=lambda one: one.created)
        ]
        cli.show(rows, COLUMNS)


def _add_keeping(cli: CommandLine) -> None:
    group = cli.group("storage snapshot")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]

    @group.command("add")
    def add(pool: Pool, volume: VolumeName, snapshot: NewName, wait: Wait = True, timeout: Timeout = None) -> None:
        """Keep what a volume holds now. The guest's memory is not in it: as after a power cut, if a VM runs."""
        follow(cli, snapshotrequests.add(client_of(cli), Where(pool, volume), snapshot), wait=wait, timeout=timeout)

    @group.command("protect")
    def protect(
        pool: Pool,
        volume: VolumeName,
        snapshot: Name,
        off: Annotated[bool, typer.Option("--off", help="Let it be removed again.")] = False,
        wait: Wait = True,
        timeout: Timeout = None,
    ) -> None:
        """See to it that a snapshot is not removed, and its volume neither."""
        task = snapshotrequests.protect(client_of(cli), Where(pool, volume), snapshot, on=not off)
        follow(cli, task, wait=wait, timeout=timeout)


def _add_losing(cli: CommandLine) -> None:
    group = cli.group("storage snapshot")
    Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool.", autocompletion=pool_names(cli))]
    VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="The volume.", autocompletion=volume_names(cli))]

    @group.command("remove")
    def remove(
        pool: Pool, volume: VolumeName, snapshot: Name, yes: Yes = False, wait: Wait = True, timeout: Timeout = None
    ) -> None:
        """Give a snapshot up; the volume stays as it is."""
        sure = consent(cli, lambda found: _lost(pool, found, snapshot), yes=yes)
        task = snapshotrequests.remove(client_of(cli), Where(pool, volume), snapshot, consent=sure)
        follow(cli, task, wait=wait, timeout=timeout)

    @group.command("rollback")
    def roll_back(
        pool: Pool, volume: VolumeName, snapshot: Name, yes: Yes = False, wait: Wait = True, timeout: Timeout = None
    ) -> None:
        """Make a volume what it was at a snapshot. No VM may run on it."""
        sure = consent(cli, lambda found: _overwritten(pool, found, snapshot), yes=yes)
        task = snapshotrequests.roll_back(client_of(cli), Where(pool, volume), snapshot, consent=sure)
        follow(cli, task, wait=wait, timeout=timeout)


def _lost(pool: str, volume: Volume, name: str) -> str:
    made = when(find_snapshot(volume, pool, name).created)
    return f"Remove snapshot {name} of volume {pool}/{volume.name}, made {made}?"


def _overwritten(pool: str, volume: Volume, name: str) -> str:
    made = when(find_snapshot(volume, pool, name).created)
    return (
        f"Roll volume {pool}/{volume.name} ({exactly(volume.size)}) back to snapshot {name}, made {made}?"
        " All that was written to it since is lost."
    )
