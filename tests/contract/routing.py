"""Machines with routers in network namespaces, and guests that talk through them."""

import json
import os
import shutil
import socket
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL

from pvc.core.process import CommandFailed, Finished, Processes, SystemProcesses
from pvc.core.runtime import Task
from pvc.core.threads import ThreadRuntime
from pvc.lab import pidfile
from pvc.plugins.networking.gateway.netns import NamespaceRouters
from pvc.plugins.networking.gateway.routers import Router, RouterState
from tests.contract.namespaces import RUN, Namespaces

RUNTIME = ThreadRuntime()
PATIENCE = 60.0
MTU = 1450
BRIDGES = ("lan-a", "lan-b", "transit", "upstream")
LEASED = '#!/bin/sh\n[ "$1" != bound ] || echo "$ip/$mask $router $dns $domain $hostname $mtu $lease"\n'


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    deadline = RUNTIME.monotonic() + PATIENCE
    while not condition():
        assert RUNTIME.monotonic() < deadline, what
        RUNTIME.sleep(0.002)


def process_of(pid: int) -> pidfile.Process:
    """The process that has that number now."""
    found = pidfile.recorded(Path(f"/proc/{pid}/stat"))
    assert found is not None, f"process {pid} has ended"
    return found


class Lacking(SystemProcesses):
    """Programs of a machine on which some are not installed."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.ran: list[Sequence[str]] = []

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        self.ran.append(command)
        if command[0] in self.names:
            raise CommandFailed(f"cannot run {command[0]}: No such file or directory; is it installed?")
        return super().run(command, timeout=timeout, env=env, stdin=stdin)


class RoutersInside:
    """The real routers of a machine that is a namespace."""

    def __init__(self, spaces: Namespaces, machine: str, directory: Path) -> None:
        self._spaces, self._machine, self._directory = spaces, machine, directory
        self.prefix = spaces.full(f"{machine}-")
        self.restart()

    def restart(self, programs: Processes = RUN, outside: tuple[str, ...] = ()) -> None:
        """A new daemon, which knows nothing."""
        self._door = NamespaceRouters(programs, RUNTIME, self._directory, prefix=self.prefix, outside=outside)

    def look(self) -> Mapping[str, RouterState]:
        with self._spaces.inside(self._machine):
            return self._door.look()

    def glance(self) -> Mapping[str, RouterState]:
        with self._spaces.inside(self._machine):
            return self._door.glance()

    def settle(self, router: Router) -> None:
        with self._spaces.inside(self._machine):
            self._door.settle(router)

    def remove(self, network: str) -> None:
        with self._spaces.inside(self._machine):
            self._door.remove(network)

    def hold(self, networks: Collection[str], seconds: float) -> None:
        with self._spaces.inside(self._machine):
            self._door.hold(networks, seconds)

    def close(self) -> None:
        """Remove all routers."""
        for network in self.look():
            self.remove(network)
        self._door.close()


class Site:
    """Machines whose bridges of the same name are joined, and guests on them."""

    def __init__(self, machines: int = 1) -> None:
        self.spaces = Namespaces()
        self.directory = Path("/run", self.spaces.full("routers"))  # dnsmasq reads as nobody: not below pytest's own
        self.directory.mkdir()
        self.directory.chmod(0o755)
        self.names = [f"m{number}" for number in range(1, machines + 1)]
        for machine in self.names:
            self.spaces.add(machine)
            for bridge in BRIDGES:
                self.spaces.ip(machine, f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
                self.spaces.ip(machine, f"link set {bridge} up")
        for other in self.names[1:]:
            for bridge in BRIDGES:
                self.spaces.ip("m1", f"link add {other}-{bridge} type veth peer name m1-{bridge} netns @{other}")
                self.spaces.ip("m1", f"link set {other}-{bridge} master {bridge} up")
                self.spaces.ip(other, f"link set m1-{bridge} master {bridge} up")
        for machine in self.names:
            self._await_ports(machine)
        self.routers = {name: RoutersInside(self.spaces, name, self.directory / name) for name in self.names}

    def guest(self, name: str, bridge: str, mac: str, *addresses: str, via: str = "", machine: str = "m1") -> None:
        """A guest on a bridge of a machine; without addresses it may ask for one."""
        self.spaces.add(name)
        sysctl = ("net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self.spaces.run(name, "sysctl", "-qw", *sysctl)
        ends = f"mtu {MTU} type veth peer name eth0 mtu {MTU} address {mac} netns @{name}"
        self.spaces.ip(machine, f"link add {name} {ends}")
        self.spaces.ip(machine, f"link set {name} master {bridge} up")
        for address in addresses:
            self.spaces.ip(name, f"addr add {address} dev eth0{' nodad' if ':' in address else ''}")
        self.spaces.ip(name, "link set eth0 up")
        self._await_ports(machine)
        if via:
            self.spaces.ip(name, f"route add default via {via}")

    def _await_ports(self, machine: str) -> None:
        """The kernel may take a second to see that a veth device is up, and bridges drop frames meanwhile."""

        def forwarding() -> bool:
            words = ["bridge", "-json", "-n", self.spaces.full(machine), "link"]
            return all(
                port["state"] == "forwarding" or port["ifname"].startswith("pv")
                for port in json.loads(RUN.check(words, timeout=30) or "[]")
            )

        until(forwarding, "a port does not come up")

    def leases(self, guest: str, *options: str) -> str:
        """What a guest is given when it asks by DHCP; empty: nothing."""
        script = self.directory / "leased"
        script.write_text(LEASED)
        script.chmod(0o755)
        words = ["busybox", "udhcpc", "-i", "eth0", "-s", str(script), "-n", "-q", "-f", "-t", "3", "-T", "1", *options]
        with suppress(CommandFailed):
            return self.spaces.run(guest, *words).strip()
        return ""

    def asks_by_dhcp6(self, guest: str, mac: str) -> bytes:
        """What a server says to a guest that solicits an address (RFC 8415), whose identity is its MAC address."""
        with self.spaces.inside(guest):
            client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            index = socket.if_nametoindex("eth0")
        with client:
            client.bind(("::", 546))
            client.settimeout(PATIENCE)
            identity = b"\0\x03\0\x01" + bytes.fromhex(mac.replace(":", ""))
            options = {1: identity, 3: b"\0\0\0\x01" + bytes(8), 8: b"\0\0", 14: b""}
            body = b"".join(struct.pack("!HH", code, len(data)) + data for code, data in options.items())
            client.sendto(b"\x01pvc" + body, ("ff02::1:2", 547, 0, index))
            return client.recv(2048)

    def resolves(self, guest: str, name: str, server: str) -> str:
        """What a name server says to a guest."""
        words = ["ip", "netns", "exec", self.spaces.full(guest), "busybox", "nslookup", name, server]
        return RUN.run(words, timeout=60).stdout.partition("\n\n")[2]

    def inside_router(self, machine: str, network: str, *words: str) -> str:
        """Run a program in a router's namespace; what it prints."""
        return RUN.check(["ip", "netns", "exec", self.routers[machine].prefix + network, *words], timeout=60)

    def came_in(self, machine: str, network: str) -> dict[str, int]:
        """How many frames have come into a router, by device."""
        links = json.loads(self.inside_router(machine, network, "ip", "-json", "-statistics", "link"))
        return {link["ifname"]: link["stats64"]["rx"]["packets"] for link in links}

    def dnsmasq(self, machine: str, network: str) -> int:
        """The number of a router's dnsmasq."""
        return int((self.directory / machine / network / "dnsmasq.pid").read_text())

    def kill(self, pid: int) -> None:
        """End a process without a warning, and wait until it is gone."""
        process = process_of(pid)
        os.kill(pid, SIGKILL)
        until(lambda: pidfile.state(process) is None, "it lives on")

    def close(self) -> None:
        for routers in self.routers.values():
            routers.close()
        self.spaces.close()
        shutil.rmtree(self.directory)


class Wire:
    """All frames that a guest gets."""

    def __init__(self, spaces: Namespaces, guest: str) -> None:
        with spaces.inside(guest):
            self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._packets.bind(("eth0", 3))
        self._packets.setblocking(False)

    def frames(self, mac: str) -> list[bytes]:
        """Those from a MAC address since the last call."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self._packets.recv(65536))
        own = bytes.fromhex(mac.replace(":", ""))
        return [frame for frame in found if frame[6:12] == own]

    def send(self, frame: bytes) -> None:
        """Have the guest send a frame."""
        self._packets.send(frame)

    def close(self) -> None:
        self._packets.close()


class Pinger:
    """Pings from a guest every few milliseconds, and counts answers."""

    def __init__(self, spaces: Namespaces, guest: str, address: str) -> None:
        with spaces.inside(guest):
            self._icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._icmp.connect((address, 0))
        self._icmp.settimeout(0.001)
        self._end = False
        self._task: Task | None = None
        self.sent = 0
        self.answered: set[int] = set()

    def __enter__(self) -> "Pinger":
        self._task = RUNTIME.spawn("pinger", self._run)
        until(lambda: bool(self.answered), "no ping was answered")
        return self

    def __exit__(self, *_: object) -> None:
        self._end = True
        assert self._task is not None and self._task.join(PATIENCE)
        self._icmp.close()

    @property
    def lost(self) -> int:
        """How many were not answered, of those sent after the first answer."""
        return len(set(range(min(self.answered), self.sent)) - self.answered)

    def ping(self) -> None:
        """Send one."""
        head = struct.pack("!BBHHH", 8, 0, 0, 77, self.sent)
        total = sum(struct.unpack("!4H", head))
        with suppress(OSError):  # nobody answers, so the queue is full
            self._icmp.send(struct.pack("!BBHHH", 8, 0, ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF, 77, self.sent))
        self.sent += 1

    def _run(self) -> None:
        while not self._end:
            self.ping()
            deadline = RUNTIME.monotonic() + 0.003
            while RUNTIME.monotonic() < deadline:
                self._hear()
        deadline = RUNTIME.monotonic() + 1.0
        while len(self.answered) < self.sent and RUNTIME.monotonic() < deadline:
            self._hear()

    def _hear(self) -> None:
        with suppress(TimeoutError, ConnectionError):
            packet = self._icmp.recv(2048)
            if packet[20] == 0:
                self.answered.add(struct.unpack("!H", packet[26:28])[0])
