"""One lab as tests, the demo and the command line use it: up, down, and everything that can be done to it meanwhile."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pvc.core.process import Finished, Processes, SystemProcesses
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.lab import daemons, images, pidfile, settings
from pvc.lab.ceph import PACKAGES as CEPH_PACKAGES
from pvc.lab.ceph import TOOLS as CEPH_TOOLS
from pvc.lab.daemons import Daemon
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError
from pvc.lab.labceph import LabCeph
from pvc.lab.namespaces import Namespaces
from pvc.lab.network import Network
from pvc.lab.parts import Parts, Row
from pvc.lab.product import Product
from pvc.lab.shape import Host, Kind, Shape
from pvc.lab.state import State, labs_directory
from pvc.lab.together import do_together
from pvc.lab.vm import shell_file, vm_id, vm_xml

TOOLS = (
    *("unshare", "nsenter", "setsid", "ip", "nft", "java", "libvirtd", "virsh"),
    *("qemu-system-x86_64", "busybox", "gcc"),
)
NETWORKING_TOOLS = ("dnsmasq",)
RBD_DRIVER = Path("/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so")
"""QEMU's, which comes in a package of its own."""
PACKAGES = (
    "zookeeper libvirt-daemon-system libvirt-clients qemu-system-x86 busybox-static iproute2 nftables gcc dnsmasq-base"
)
WHOLE_HOST = ("node", "host")
VMS_TIME, VM_TIME = 60.0, 4.0
"""Seconds until all VMs must run: so many, and so many more for each."""
END_TIME = 15.0
"""Seconds until a killed process must be gone."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_tools(*, networking: bool = False, ceph: bool = False) -> list[str]:
    """Programs that a lab needs and this machine lacks."""
    needed = (*TOOLS, *(NETWORKING_TOOLS if networking else ()), *(CEPH_TOOLS if ceph else ()))
    missing = [tool for tool in needed if shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{PATH}") is None]
    return [*missing, *([] if RBD_DRIVER.exists() or not ceph else [RBD_DRIVER.name])]


def _silent(text: str) -> None:
    pass


class Lab:
    """A lab by name; it may be up or down. Methods raise LabError or CommandFailed."""

    def __init__(
        self,
        name: str = "lab",
        shape: Shape | None = None,
        *,
        directory: Path | None = None,
        processes: Processes | None = None,
        runtime: Runtime | None = None,
        say: Callable[[str], None] = _silent,
    ) -> None:
        self.state = State(name, directory or labs_directory())
        self._asked = shape
        self._processes = processes or SystemProcesses()
        self._runtime = runtime or ThreadRuntime()
        self._say = say
        self._namespaces = Namespaces(self.state.path, self._processes, self._runtime)
        self._network = Network(lambda command, text: self._namespaces.run(None, command, stdin=text))
        self._product = Product(self.run)

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def shape(self) -> Shape:
        """The shape of the lab that is there, else the one asked for."""
        return self.state.shape() or self._asked or Shape()

    def is_up(self) -> bool:
        """Whether the lab is there; its parts may be broken all the same."""
        return self._namespaces.init() is not None and self.state.shape() is not None

    # up and down

    def up(self) -> list[str]:
        """Make the lab, or repair what is missing of it; what had to be done.

        Returns when everything works. Raises LabError if something does not in time, or if the lab is there with
        another shape.
        """
        shape = self._asked or self.shape
        shape.check()
        _require_root()
        _require_tools(shape)
        if shape.storage:
            _require_elsewhere((self.state.path, Path(sys.executable)))
        if not shape.bare:
            daemons.require_programs(["pvc", "pvcd"])
        with self.state.lock():
            if not self.is_up():
                self._make(shape)
                self._complete(shape)
                return ["made"]
            if self.shape != shape:
                raise LabError(f"lab {self.name} is up with another shape; take it down first: {self._command('down')}")
            return self._complete(shape)

    def down(self) -> bool:
        """End everything of the lab and remove its directory; False if there was nothing."""
        _require_root()
        with self.state.lock():
            there = self.state.path.exists()
            self._namespaces.end()
            self.state.remove()
            return there

    def _make(self, shape: Shape) -> None:
        self._namespaces.end()
        self.state.remove()
        self.state.make()
        if shape.storage:
            (self.state.path / daemons.SHARED_DIRECTORY).mkdir()
            shutil.copy(images.shim(self.state.cache, self._processes), self.state.path / daemons.SHARED_SHIM)
        self._say(f"making lab {self.name} in {self.state.path}")
        (self.state.path / "hosts").write_text(settings.hosts_text(shape))
        for host in shape.hosts():
            daemons.write_host(shape, self.name, host, self.state.path)
        self._namespaces.start(self.name)
        self._network.make(shape.hosts())
        self.state.keep_shape(shape)

    def _complete(self, shape: Shape) -> list[str]:
        done = [f"healed {name}" for name in self._network.cuts(shape.hosts())]
        self._network.heal(None)
        parts = self._parts()
        done += [f"started host {host.name}" for host in shape.hosts() if parts.ensure_host(host)]
        everything = daemons.daemons(shape, self.state.path)
        outer = [daemon for daemon in everything if daemon.name not in ("pvcd", *daemons.CEPH_DAEMONS)]
        for daemon in outer:
            if parts.ensure(daemon):
                self._say(f"starting {daemon.name} on {daemon.host.name}")
                done.append(f"started {daemon.name} on {daemon.host.name}")
        if shape.ceph:
            done += self._start_ceph()
        for daemon in outer:
            parts.wait_ready(daemon)
        if not shape.bare:
            done += self._start_product(shape, [daemon for daemon in everything if daemon.name == "pvcd"])
        return done

    def _start_ceph(self) -> list[str]:
        self._say("starting Ceph")
        ceph = self.ceph()
        ceph.start()
        ceph.hand_out()
        return [f"started {daemon.name} on {daemon.host.name}" for daemon in ceph.started]

    def _start_product(self, shape: Shape, own: Sequence[Daemon]) -> list[str]:
        if not self.state.initialised.exists():
            self._product.init()
            self.state.initialised.touch()
        parts = self._parts()
        started = [daemon for daemon in own if parts.ensure(daemon)]
        self._say(f"waiting for {len(own)} nodes")
        parts.wait_nodes([daemon.host for daemon in own])
        return [f"started pvcd on {daemon.host.name}" for daemon in started] + self._start_vms(shape)

    def _start_vms(self, shape: Shape) -> list[str]:
        placement = shape.placement()
        states = self._product.vms() if placement else {}
        idle = [name for name in placement if states.get(name) not in ("running", "starting", "migrating")]

        def bring(name: str) -> None:
            self._say(f"starting {name} on {placement[name]}")
            if name not in states:
                self._product.define(self.write_vm(name), placement[name])
            self._product.start(name)

        seconds = VMS_TIME + VM_TIME * len(idle)
        images.prepare(shape.vm_image, self.state.cache, self._processes)  # once, before many ask for it
        do_together(self._runtime, [partial(bring, name) for name in idle], os.cpu_count() or 1, seconds)

        def missing() -> str | None:
            now = self._product.vms()
            rest = [f"{name} is {now.get(name, 'unknown')}" for name in placement if now.get(name) != "running"]
            return "; ".join(rest) or None

        if placement:
            hint = self.state.log(shape.of_kind(Kind.NODE)[0], "pvcd")
            wait_until(self._runtime, seconds, missing, log=hint, pause=0.2)
        return [f"started {name}" for name in idle]

    # VMs

    def write_vm(
        self,
        name: str,
        *,
        arguments: str | None = None,
        memory: int | None = None,
        networks: Sequence[str] = (),
        disks: Sequence[str] = (),
    ) -> Path:
        """Write the libvirt XML of a VM with the lab's image; `arguments` and `memory` (MiB) replace the shape's.

        It is plugged into these networks of the cluster, and has these disks: `POOL/VOLUME`, or the path of a raw file.
        Only the image `linux` has drivers for them.
        """
        shape = self.shape
        image = images.prepare(shape.vm_image, self.state.cache, self._processes)
        given = shape.vm_args if arguments is None else arguments
        command_line = " ".join(part for part in (image.arguments, f"name={name}", given) if part)
        size = memory or shape.vm_memory or image.memory
        path = self.state.path / f"{name}.xml"
        identity, boot = vm_id(self.name, name), (image.kernel, command_line, image.initrd)
        path.write_text(vm_xml(name, identity, size, *boot, shell=image.shell, networks=networks, disks=disks))
        return path

    @property
    def shared_directory(self) -> Path:
        """Where the directory that the hosts of a lab with storage share is outside of the lab."""
        return self.state.path / daemons.SHARED_DIRECTORY

    def shell_socket(self, name: str, node: str) -> Path:
        """Where commands for a VM with the image `linux` go in while it is on that node; outside of the lab."""
        return self.state.path / self.shape.host(node).name / "run" / shell_file(name)

    def pinger(self) -> Path:
        """The program `pinger`, for the lab's hosts; VMs with the image `linux` have it too."""
        return images.program("pinger", self.state.cache, self._processes)

    def ceph(self) -> LabCeph:
        """The lab's Ceph cluster. Raises LabError if it has none."""
        return LabCeph(self.state.path, self.shape, self._processes, self._runtime, self.run, self._parts().ensure)

    def libvirt_uri(self, node: str) -> str:
        """A libvirt URI of a node that works outside of the lab, for root."""
        return f"qemu+unix:///system?socket={self.state.path}/{self.shape.host(node).name}/run/libvirt-sock"

    def console_directory(self, node: str) -> Path:
        """Where a node's /var/log/libvirt is outside of the lab."""
        return self.state.path / self.shape.host(node).name / "log"

    # use

    def enter(self, command: Sequence[str], node: str | None = None, directory: Path | None = None) -> list[str]:
        """The command that runs another on the lab's client, or on a host, with its environment."""
        host = self.shape.host(node or "client")
        variables = [f"{key}={value}" for key, value in self._environment(host).items()]
        change = [f"--chdir={directory}"] if directory else []
        return self._namespaces.enter(host, ["env", *change, *variables, *command])

    def run(self, command: Sequence[str], node: str | None = None, *, timeout: float = 60.0) -> Finished:
        """Run a command on the lab's client, or on a host; its exit code is not looked at."""
        return self._processes.run(self.enter(command, node), timeout=timeout)

    def _environment(self, host: Host) -> Mapping[str, str]:
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{PATH}",
            "PVC_ZOOKEEPER": ",".join(self.shape.zookeeper_hosts()),
            "PVC_LAB": self.name,
        }
        if host.kind is Kind.NODE:
            return {**variables, "LIBVIRT_DEFAULT_URI": "qemu:///system"}
        return {**variables, "PVC_CONFIG": str(daemons.client_file(self.shape.host("client"), self.state.path))}

    def log(self, name: str, of: str | None = None) -> Path:
        """The log of one daemon of a host; without `of`, of the one that matters most there. The lab may be down."""
        host = self.shape.host(name)
        everything = daemons.daemons(self.shape, self.state.path)
        running = [daemon.name for daemon in everything if daemon.host == host] or ["host"]
        chosen = of or running[-1]
        if chosen not in (*running, "host"):
            raise LabError(f"{name} runs no {chosen}; it runs {', '.join(running)}")
        return self.state.log(host, chosen)

    # faults

    def start(self, what: str, name: str, *, wait: bool = True) -> None:
        """Start a daemon that is dead, or `node`: a host with all its daemons. Returns when it works, or at once."""
        host = self.shape.host(name)
        parts = self._parts()
        with self.state.lock():
            if what in WHOLE_HOST:
                parts.ensure_host(host)
            chosen = [daemon for daemon in parts.daemons_of(host) if what in WHOLE_HOST or what == daemon.name]
            if not chosen and what not in WHOLE_HOST:
                raise LabError(f"{name} runs no {what}; `{self._command('status')}` says what runs where")
            for daemon in chosen:
                parts.ensure(daemon)
                if wait:
                    parts.wait_ready(daemon)

    def kill(self, what: str, name: str, number: signal.Signals = signal.SIGKILL, node: str | None = None) -> None:
        """Send a signal to a daemon of a host, or, with `what` qemu, to the QEMU of a VM; `node`: a whole host.

        A host that dies loses its network at the same moment, so that its peers hear nothing of it. Returns when
        what was killed has ended (SIGKILL, SIGTERM). A VM may run on two nodes while it migrates: `node` tells which.
        """
        if what == "qemu":
            self._kill_vm(name, number, node)
            return
        host = self.shape.host(name)
        if what in WHOLE_HOST:
            self._network.plug(host, connected=False)
            self._namespaces.end_host(host)
            return
        self.log(name, what)
        process = pidfile.recorded(self.state.record(host, what))
        if process is None or not pidfile.send(process, number):
            raise LabError(f"{what} of {name} is not running; `{self._command('status')}` says what is")
        if number in (signal.SIGKILL, signal.SIGTERM):
            gone = f"{what} of {name} did not end after {number.name}"
            wait_until(self._runtime, END_TIME, lambda: gone if pidfile.state(process) else None, pause=0.01)

    def partition(self, name: str, others: str = "all") -> None:
        """Drop all packets between a host and `others`: `all`, `zookeeper` or another host."""
        host = self.shape.host(name)
        if others == "all":
            self._network.cut(host, None)
        elif others == "zookeeper":
            self._network.cut(host, self.shape.of_kind(Kind.ZOOKEEPER))
        else:
            self._network.cut(host, [self.shape.host(others)])

    def heal(self, name: str | None = None) -> None:
        """Undo the partitions of a host; None: of all hosts."""
        self._network.heal(self.shape.host(name) if name else None)

    def _kill_vm(self, name: str, number: signal.Signals, node: str | None) -> None:
        hosts = [host for host in self.shape.of_kind(Kind.NODE) if node in (None, host.name)]
        hit = [process for host in hosts if (process := self.vm_processes(host.name).get(name))]
        if sum(pidfile.send(process, number) for process in hit) == 0:
            where = node or "any node"
            raise LabError(f"no QEMU of {name} runs on {where}; `{self._command('status')}` says what runs where")

    # parts

    def status(self) -> list[Row]:
        """One row per host, daemon and VM process: what it is, where, and whether it runs."""
        return self._parts().rows()

    def vm_processes(self, node: str) -> dict[str, pidfile.Process]:
        """The QEMU processes of a node by VM name."""
        return self._parts().vm_processes(self.shape.host(node))

    def _parts(self) -> Parts:
        if not self.is_up():
            raise LabError(f"lab {self.name} is down; bring it up with `{self._command('up')}`")
        places = (self._namespaces, self._network)
        return Parts(self.state, self.shape, *places, self._product, self._runtime, self.run)

    def _command(self, verb: str) -> str:
        return f"pvc lab {verb}" + ("" if self.name == "lab" else f" --name {self.name}")


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("a lab needs root: it makes namespaces and runs libvirtd; use sudo")


def _require_elsewhere(paths: Sequence[Path]) -> None:
    """Raises LabError if one of these would be covered by what the hosts mount."""
    top = Path(settings.SHARED).parent
    for path in paths:
        if path.is_relative_to(top):
            raise LabError(f"hosts of a lab with --storage see another {top} than this machine; move {path} elsewhere")


def _require_tools(shape: Shape) -> None:
    if missing := missing_tools(networking=shape.networking, ceph=shape.ceph):
        packages = f"{PACKAGES} {CEPH_PACKAGES}" if shape.ceph else PACKAGES
        raise LabError(f"this machine lacks {', '.join(missing)}; install the packages {packages}")
