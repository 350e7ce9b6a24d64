"""`pvc lab`: thin commands over `Lab`."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from pvc.core.commands import CommandLine
from pvc.core.errors import PvcError
from pvc.lab.cluster import Lab
from pvc.lab.demo import tell
from pvc.lab.shape import Shape
from pvc.lab.state import known_labs, labs_directory

Name = Annotated[str, typer.Option("--name", help="Which lab; several may be up at once.")]
NAME = "lab"


def add_commands(cli: CommandLine) -> None:
    """Add to the group `lab`."""
    _add_life(cli)
    _add_use(cli)
    _add_faults(cli)


def _add_life(cli: CommandLine) -> None:
    group = cli.group("lab")

    @group.command("up")
    def up(
        name: Name = NAME,
        nodes: Annotated[int, typer.Option(help="Hosts with libvirtd and pvcd.")] = 3,
        vms: Annotated[int, typer.Option(help="VMs, spread over the nodes.")] = 6,
        zookeepers: Annotated[int, typer.Option(help="ZooKeeper servers: 1, 3 or 5.")] = 1,
        vm_image: Annotated[str, typer.Option(help="`tiny`: up in a second; `linux`: looks real.")] = "tiny",
        vm_memory: Annotated[int | None, typer.Option(help="MiB per VM.")] = None,
        vm_args: Annotated[str, typer.Option(help="Added to the VMs' kernel command line, such as `rate=10`.")] = "",
        node_memory: Annotated[int | None, typer.Option(help="MiB that each node offers to VMs.")] = None,
        bare: Annotated[bool, typer.Option("--bare", help="Only ZooKeeper and libvirtd: no pvcd, no VMs.")] = False,
        networking: Annotated[
            bool, typer.Option("--networking", help="Nodes with the networking role, and a host `upstream` outside.")
        ] = False,
        storage: Annotated[
            bool, typer.Option("--storage", help="Nodes with the storage role, and a directory that all hosts share.")
        ] = False,
        ceph: Annotated[
            bool, typer.Option("--ceph", help="A small real Ceph cluster, with an OSD on each of the first nodes.")
        ] = False,
        hypervisor_only: Annotated[
            list[str] | None,
            typer.Option(
                metavar="HOST", help="A node without networking and storage roles; may be given several times."
            ),
        ] = None,
    ) -> None:
        """Make a lab, or repair what is missing of it."""
        shape = Shape(
            nodes=nodes,
            vms=0 if bare else vms,
            zookeepers=zookeepers,
            vm_image=vm_image,
            vm_memory=vm_memory,
            vm_args=vm_args,
            node_memory=node_memory,
            bare=bare,
            networking=networking,
            storage=storage,
            ceph=ceph,
            hypervisor_only=tuple(hypervisor_only or ()),
        )
        started = cli.runtime.monotonic()
        which = "" if name == NAME else f" --name {name}"
        done = Lab(name, shape, runtime=cli.runtime, say=cli.note).up()
        if not done:
            cli.say(f"lab {name} is up already, nothing is missing")
        elif done == ["made"]:
            cli.say(f"lab {name} is up after {cli.runtime.monotonic() - started:.1f} s; try: pvc lab shell{which}")
        else:
            cli.say(f"lab {name} was up; {', '.join(done)}")

    @group.command("demo")
    def demo(name: Name = NAME) -> None:
        """Tell the whole story on real VMs and check every claim; leaves the lab up."""
        if not tell(name, cli.runtime, cli.say):
            cli.fail("not every claim of the demo was true")

    @group.command("down")
    def down(
        name: Name = NAME, every: Annotated[bool, typer.Option("--all", help="All labs of this machine.")] = False
    ) -> None:
        """End a lab and everything in it."""
        for each in known_labs(labs_directory()) if every else [name]:
            there = Lab(each, runtime=cli.runtime).down()
            cli.say(f"lab {each} is down" if there else f"lab {each} was not up")

    @group.command("status", listing=True)
    def status(name: Name = NAME) -> None:
        """Show every host and process of a lab."""
        cli.show(Lab(name).status(), ["host", "process", "state", "pid", "address", "roles", "cut_from"])


def _add_use(cli: CommandLine) -> None:
    group = cli.group("lab")

    @group.command("exec", context_settings={"allow_interspersed_args": False})
    def exec_(
        command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
        name: Name = NAME,
        node: Annotated[str | None, typer.Option(help="Run it on this host; default: on the client.")] = None,
    ) -> None:
        """Run a command in a lab; ends with its exit code."""
        _become(Lab(name).enter(command, node, _here()))

    @group.command("shell")
    def shell(
        name: Name = NAME,
        node: Annotated[str | None, typer.Option(help="On this host; default: on the client.")] = None,
    ) -> None:
        """Open a shell in a lab."""
        cli.note("`pvc node list` shows the cluster, `virsh list` the VMs of a node; leave with exit")
        prompt = f"[{name} {node or 'client'}] \\w \\$ "
        _become(Lab(name).enter(["env", f"PS1={prompt}", "bash", "--norc", "--noprofile"], node, _here()))

    @group.command("logs")
    def logs(
        host: Annotated[str, typer.Argument(help="A host, such as hv1 or zk1.")],
        of: Annotated[str | None, typer.Option(help="pvcd, libvirtd, zookeeper, mon, mgr, osd or host.")] = None,
        name: Name = NAME,
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    ) -> None:
        """Show the log of a daemon."""
        path = Lab(name).log(host, of)
        if not path.exists():
            raise PvcError(f"there is no log {path}: it has not been started yet")
        _become(["tail", "--lines=+1", *(["--follow"] if follow else []), "--", str(path)])


def _add_faults(cli: CommandLine) -> None:
    group = cli.group("lab")
    what = typer.Argument(help="pvcd, libvirtd, zookeeper, mon, mgr, osd or node (a whole host).")

    @group.command("start")
    def start(
        what: Annotated[str, what], host: Annotated[str, typer.Argument(help="The host.")], name: Name = NAME
    ) -> None:
        """Start what was killed; returns when it works."""
        Lab(name, runtime=cli.runtime).start(what, host)

    @group.command("kill")
    def kill(
        what: Annotated[
            str, typer.Argument(help="pvcd, libvirtd, zookeeper, mon, mgr, osd, qemu or node (a whole host).")
        ],
        target: Annotated[str, typer.Argument(help="The host; for qemu the VM.")],
        name: Name = NAME,
        number: Annotated[str, typer.Option("--signal", help="Such as KILL, TERM, STOP, CONT.")] = "KILL",
        node: Annotated[str | None, typer.Option(help="For qemu: only on this node.")] = None,
    ) -> None:
        """Kill a daemon, a VM or a whole host."""
        Lab(name, runtime=cli.runtime).kill(what, target, _signal(number), node)

    @group.command("partition")
    def partition(
        host: Annotated[str, typer.Argument(help="The host to cut off.")],
        others: Annotated[str, typer.Option("--from", help="all, zookeeper, upstream or a host.")] = "all",
        name: Name = NAME,
    ) -> None:
        """Cut a host off the network: packets vanish silently."""
        Lab(name).partition(host, others)

    @group.command("heal")
    def heal(
        host: Annotated[str | None, typer.Argument(help="The host; or --all.")] = None,
        every: Annotated[bool, typer.Option("--all", help="All hosts.")] = False,
        name: Name = NAME,
    ) -> None:
        """Undo partitions."""
        if (host is None) is not every:
            raise PvcError("name the host to heal, or say --all")
        Lab(name).heal(host)


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[f"SIG{name.upper().removeprefix('SIG')}"]
    except KeyError:
        raise PvcError(f"there is no signal {name}; try KILL, TERM, STOP or CONT") from None


def _here() -> Path | None:
    """The working directory, if it can be the one inside as well: some are others there."""
    here = Path.cwd()
    return None if any(here.is_relative_to(other) for other in ("/run", "/proc", "/mnt")) else here


def _become(command: list[str]) -> None:
    """Be replaced by a command: terminal, signals and exit code are its own from now on."""
    os.execvp(command[0], command)
