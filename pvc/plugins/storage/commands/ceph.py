"""`pvc storage osd` and `pvc storage flag`. Talks to the tree only."""

from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.plugins.storage.ceph import requests
from pvc.plugins.storage.ceph.cluster import FLAGS
from pvc.plugins.storage.ceph.requests import Seat
from pvc.plugins.storage.ceph.shown import FLAG_COLUMNS, OSD_COLUMNS, flag_rows, osd_rows
from pvc.plugins.storage.commands.following import Timeout, Wait, follow
from pvc.plugins.storage.commands.words import Yes, client_of

Osd = Annotated[str, typer.Argument(metavar="OSD", help="Its number, as 3 or osd.3.")]
Flag = Annotated[
    str,
    typer.Argument(
        metavar="FLAG",
        help="A flag of Ceph, such as noout.",
        autocompletion=lambda incomplete: [flag for flag in FLAGS if flag.startswith(incomplete)],
    ),
]


def add_osd_commands(cli: CommandLine) -> None:
    """Add to the group `storage osd`."""
    group = cli.group("storage osd")
    Node = Annotated[str, typer.Argument(metavar="NODE", help="Whose device it is.", autocompletion=cli.complete_nodes)]
    Device = Annotated[str, typer.Argument(metavar="DEVICE", help="A block device that holds nothing, as /dev/sdb.")]

    @group.command("list", listing=True)
    def list_osds() -> None:
        """Show all OSDs, where they are, and how full they are."""
        cli.show(osd_rows(cli.connect()), OSD_COLUMNS)

    @group.command("add")
    def add(node: Node, device: Device, yes: Yes = False, wait: Wait = True, timeout: Timeout = None) -> None:
        """Make an OSD of a device that holds nothing, and start it."""
        cli.confirm(f"Make an OSD of {device} of {node}? Ceph takes the whole device.", yes=yes)
        follow(cli, requests.add_osd(client_of(cli), node, device), wait=wait, timeout=timeout)

    @group.command("remove")
    def remove(osd: Osd, yes: Yes = False, wait: Wait = True, timeout: Timeout = None) -> None:
        """Move what an OSD holds to others, take it out of Ceph, and wipe its device. May take hours."""

        asked: set[str] = set()

        def consent(seat: Seat) -> None:
            if seat.node in asked:  # the request is repeated where somebody else was faster
                return
            asked.add(seat.node)
            cli.confirm(f"Empty osd.{seat.id}, remove it from Ceph and wipe its device on {seat.node}?", yes=yes)

        task = requests.remove_osd(client_of(cli), requests.osd_number(osd), consent)
        follow(cli, task, wait=wait, timeout=timeout)

    @group.command("in")
    def mark_in(osd: Osd, wait: Wait = True, timeout: Timeout = None) -> None:
        """Have Ceph place data on an OSD."""
        follow(cli, requests.mark_osd(client_of(cli), requests.osd_number(osd), True), wait=wait, timeout=timeout)

    @group.command("out")
    def mark_out(osd: Osd, wait: Wait = True, timeout: Timeout = None) -> None:
        """Have Ceph move all data from an OSD to others."""
        follow(cli, requests.mark_osd(client_of(cli), requests.osd_number(osd), False), wait=wait, timeout=timeout)


def add_flag_commands(cli: CommandLine) -> None:
    """Add to the group `storage flag`."""
    group = cli.group("storage flag")

    @group.command("list", listing=True)
    def list_flags() -> None:
        """Show the flags of the Ceph cluster, as they were at the last look."""
        cli.show(flag_rows(cli.connect()), FLAG_COLUMNS)

    @group.command("set")
    def set_flag(flag: Flag, wait: Wait = True, timeout: Timeout = None) -> None:
        """Set a flag. What pvc has set for a flush is then left alone by its unflush."""
        follow(cli, requests.set_flag(client_of(cli), flag, True), wait=wait, timeout=timeout)

    @group.command("unset")
    def unset_flag(flag: Flag, wait: Wait = True, timeout: Timeout = None) -> None:
        """Unset a flag."""
        follow(cli, requests.set_flag(client_of(cli), flag, False), wait=wait, timeout=timeout)
