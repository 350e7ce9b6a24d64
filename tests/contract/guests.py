"""Real guests without a VM: network namespaces plugged into a bridge of a namespace that stands for the host.

A socket belongs to the namespace in which it was made, so one process can speak for all guests. Needs root.
"""

import ctypes
import json
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.deadline import wait_until
from pvc.plugins.networking.firewall.nftables import NftProgram
from pvc.plugins.networking.firewall.wanted import Port

CLONE_NEWNET = 0x40000000
PATIENCE = 60.0
"""Seconds in which what is let through has to arrive."""
RUN = SystemProcesses()
LIBC = ctypes.CDLL(None, use_errno=True)

T = TypeVar("T")


def ip(*words: str) -> None:
    RUN.check(["ip", *words], timeout=30)


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """For this thread the network is that of the namespace."""
    with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{namespace}").open() as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(home.fileno())


def _enter(fd: int) -> None:
    if LIBC.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@dataclass(frozen=True)
class Guest:
    """A guest: its namespace, its port on the host and its addresses."""

    namespace: str
    port: Port
    v4: str
    v6: str

    def address(self, family: int) -> str:
        return self.v4 if family == 4 else self.v6

    def open(self, kind: int, family: int = 4, protocol: int = 0) -> socket.socket:
        with inside(self.namespace):
            made = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, kind, protocol)
        made.setblocking(False)
        return made

    def frames(self) -> socket.socket:
        """A socket that sends whole frames from the guest's device."""
        with inside(self.namespace):
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            made.bind(("eth0", 0))
        made.setblocking(False)
        return made

    def mac(self) -> bytes:
        return bytes.fromhex(self.port.mac.replace(":", ""))


class Lan:
    """A host with a bridge and three guests, `a`, `b` and `c`; `close` takes all of it away."""

    def __init__(self) -> None:
        tag = ThreadRuntime().new_id()[:6]
        self.host = f"pvc-test-{tag}-host"
        self.nft = ("ip", "netns", "exec", self.host, "nft")
        self.kernel = NftProgram(RUN, self.nft)
        self._namespaces = [self.host]
        self._open: list[socket.socket] = []
        ip("netns", "add", self.host)
        try:
            self._plug(tag)
        except BaseException:
            self.close()
            raise

    def _plug(self, tag: str) -> None:
        # Else bridged packets would also go through the tables for routed ones.
        calls = [f"net.bridge.bridge-nf-call-{each}=0" for each in ("iptables", "ip6tables", "arptables")]
        RUN.check(["ip", "netns", "exec", self.host, "sysctl", "-qw", *calls], timeout=30)
        ip("-n", self.host, "link", "add", "br1", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        ip("-n", self.host, "link", "set", "br1", "up")
        self.a, self.b, self.c = (self._guest(tag, number) for number in (1, 2, 3))
        wait_until(ThreadRuntime(), PATIENCE, self._idle_ports, pause=0.01)

    def _idle_ports(self) -> str | None:
        """The bridge drops frames until the kernel has seen that a port is up, which it may take a second for."""
        ports = json.loads(RUN.check(["bridge", "-json", "-n", self.host, "link"], timeout=30))
        idle = [port["ifname"] for port in ports if port["state"] != "forwarding"]
        return f"{', '.join(idle)} does not come up" if idle else None

    def _guest(self, tag: str, number: int) -> Guest:
        name = f"pvc-test-{tag}-{number}"
        guest = Guest(name, Port(f"tap{number}", f"52:54:00:00:00:0{number}"), f"10.7.0.{number}", f"fd07::{number}")
        ip("netns", "add", name)
        self._namespaces.append(name)
        peer = ["peer", "name", "eth0", "address", guest.port.mac, "netns", name]
        ip("-n", self.host, "link", "add", guest.port.name, "type", "veth", *peer)
        ip("-n", self.host, "link", "set", guest.port.name, "master", "br1", "up")
        for address in (f"{guest.v4}/24", f"{guest.v6}/64"):
            nodad = ["nodad"] if ":" in address else []
            ip("-n", name, "addr", "add", address, "dev", "eth0", *nodad)
        ip("-n", name, "link", "set", "eth0", "up")
        return guest

    def close(self) -> None:
        for each in self._open:
            each.close()
        for name in self._namespaces:
            ip("netns", "del", name)

    def kept(self, made: socket.socket) -> socket.socket:
        """The same socket, closed at the end."""
        self._open.append(made)
        return made

    def udp_passes(self, source: Guest, target: Guest, port: int, *, family: int = 4, size: int = 10) -> bool:
        """Whether a datagram arrives. What comes after it on a port that must be open tells that it will not come."""
        with source.open(socket.SOCK_DGRAM, family) as sender:
            return self._arrives(source, target, port, lambda: self._send(sender, target, port, size, family), family)

    def _send(self, sender: socket.socket, target: Guest, port: int, size: int, family: int) -> None:
        sender.sendto(b"x" * size, (target.address(family), port))

    def _arrives(self, source: Guest, target: Guest, port: int, send: Callable[[], None], family: int) -> bool:
        with target.open(socket.SOCK_DGRAM, family) as receiver:
            receiver.bind((target.address(family), port))
            send()
            self.beat(source, target)
            return bool(select.select([receiver], [], [], 0)[0])

    def beat(self, source: Guest, target: Guest) -> None:
        """Send something that no firewall here keeps from its way, an ARP request, and wait until it has arrived.

        All frames between two guests go one after the other: what was sent before has arrived or is lost.
        """
        token = os.urandom(4)
        with target.frames() as receiver, source.frames() as sender:
            fields = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
            body = fields + source.mac() + token + bytes(6) + token
            sender.send(b"\xff" * 6 + source.mac() + b"\x08\x06" + body)
            clock = ThreadRuntime()
            deadline = clock.monotonic() + PATIENCE
            while clock.monotonic() < deadline:
                if select.select([receiver], [], [], 1.0)[0] and token in receiver.recv(2048):
                    return
        raise AssertionError(f"no ARP from {source.port.name} arrived at {target.port.name}")

    def tcp_opens(self, source: Guest, target: Guest, port: int, *, family: int = 4) -> bool:
        """Whether a connection comes about."""
        with target.open(socket.SOCK_STREAM, family) as listener, source.open(socket.SOCK_STREAM, family) as caller:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((target.address(family), port))
            listener.listen()
            caller.connect_ex((target.address(family), port))
            for one, other in ((source, target), (target, source), (source, target)):  # SYN, SYN and ACK, ACK
                self.beat(one, other)
            return bool(select.select([listener], [], [], 0)[0])

    def pings(self, source: Guest, target: Guest, *, family: int = 4) -> bool:
        """Whether an echo is answered."""
        protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
        with source.open(socket.SOCK_RAW, family, protocol) as pinger:
            token = os.urandom(8)
            pinger.sendto(echo(token, family), (target.address(family), 0))
            self.beat(source, target)
            self.beat(target, source)
            while select.select([pinger], [], [], 0)[0]:
                said = pinger.recv(2048)
                said = said[20:] if family == 4 else said
                if said[0] in (0, 129) and token in said:
                    return True
            return False

    def meet(self) -> None:
        """Have all guests know each other's addresses: the first packet to a stranger waits for that."""
        for one in (self.a, self.b, self.c):
            for other in (self.a, self.b, self.c):
                if one is not other:
                    for address in (other.v4, other.v6):
                        near = ["lladdr", other.port.mac, "dev", "eth0", "nud", "permanent"]
                        ip("-n", one.namespace, "neigh", "replace", address, *near)


def echo(token: bytes, family: int) -> bytes:
    """An echo request; of ICMPv6 the kernel itself fills in the checksum."""
    body = token + bytes(len(token) % 2)
    message = struct.pack("!BBHHH", 8 if family == 4 else 128, 0, 0, 1, 1) + body
    if family == 6:
        return message
    return message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
