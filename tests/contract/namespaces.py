"""Network namespaces of a test's own: hosts on one LAN, and guests plugged into their bridges."""

import ctypes
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pvc.core.process import CommandFailed, SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab.deadline import wait_until
from pvc.plugins.networking.dataplane import Change, Seen
from pvc.plugins.networking.firewall.nftables import NftProgram
from pvc.plugins.networking.firewall.packetfilter import Abilities, Count, Ruleset
from pvc.plugins.networking.netlink import NetlinkDataplane

RUN = SystemProcesses()
PATIENCE = 30.0
CLONE_NEWNET = 0x40000000
"""Of setns(2), which Python 3.11 does not have."""
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """Makes namespaces, and removes all of them."""

    def __init__(self) -> None:
        self._prefix = f"pvc-{ThreadRuntime().new_id()[:8]}"
        self._made: list[str] = []

    def add(self, name: str) -> str:
        """Make a namespace; its full name."""
        full = f"{self._prefix}-{name}"
        RUN.check(["ip", "netns", "add", full], timeout=30)
        self._made.append(full)
        self.ip(name, "link set lo up")
        return full

    def ip(self, name: str, words: str) -> str:
        """Run `ip` in a namespace; what it prints. A word @name stands for the full name of a namespace."""
        full = [self.full(word[1:]) if word.startswith("@") else word for word in words.split()]
        return RUN.check(["ip", "-n", self.full(name), *full], timeout=30)

    def run(self, name: str, *words: str) -> str:
        """Run a program in a namespace; what it prints."""
        return RUN.check(["ip", "netns", "exec", self.full(name), *words], timeout=60)

    def answers(self, name: str, address: str) -> bool:
        """Whether a ping from a namespace is answered."""
        try:
            self.run(name, "busybox", "ping", "-c", "1", "-W", "1", address)
        except CommandFailed:
            return False
        return True

    def await_up(self, name: str, device: str) -> None:
        """Wait until a device lets through what is sent: the kernel attends to new cables once a second only."""

        def missing() -> str | None:
            (link,) = json.loads(self.ip(name, f"-json link show dev {device}"))
            return None if link["operstate"] == "UP" else f"{device} of {name} is {link['operstate']}"

        wait_until(ThreadRuntime(), PATIENCE, missing, pause=0.01)

    def full(self, name: str) -> str:
        """The name that the kernel knows a namespace by."""
        return f"{self._prefix}-{name}"

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """The calling thread is in a namespace meanwhile."""
        with Path("/proc/thread-self/ns/net").open() as home, Path(f"/run/netns/{self.full(name)}").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def close(self) -> None:
        """Remove all of them, with everything in them."""
        for full in self._made:
            RUN.check(["ip", "netns", "del", full], timeout=30)


class Hosts:
    """Hosts h1, h2, ... on one LAN, with the addresses 10.99.0.1, 10.99.0.2, ..., and guests."""

    def __init__(self, count: int, *, mtu: int = 1500) -> None:
        self.spaces = Namespaces()
        self.spaces.add("lan")
        self.spaces.ip("lan", "link add lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        self.spaces.ip("lan", f"link set lan mtu {mtu} up")
        self.names = [f"h{number}" for number in range(1, count + 1)]
        for number, host in enumerate(self.names, start=1):
            self._plug(host, number, mtu)

    def close(self) -> None:
        """Remove everything."""
        self.spaces.close()

    def add_device(self, host: str, name: str) -> None:
        """Another device of a host on the LAN, without an address."""
        port = f"{host}-{name}"
        self.spaces.ip("lan", f"link add {port} type veth peer name {name} netns @{host}")
        self.spaces.ip("lan", f"link set {port} master lan up")

    def guest(self, name: str, host: str, bridge: str, mac: str, address: str, device: str = "") -> None:
        """A guest behind a bridge of a host, whose device there is called like it, or `device`. It is silent: without
        IPv6 it says nothing unless it is asked."""
        device = device or name
        self.spaces.add(name)
        self.spaces.run(
            name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"
        )
        mtu = json.loads(self.spaces.ip(host, f"-json link show dev {bridge}"))[0]["mtu"]
        self.spaces.ip(
            host, f"link add {device} mtu {mtu} type veth peer name eth0 mtu {mtu} address {mac} netns @{name}"
        )
        self.spaces.ip(name, f"addr add {address} dev eth0")
        self.spaces.ip(name, "link set eth0 up")
        self.spaces.ip(host, f"link set {device} master {bridge} up")
        self.spaces.await_up(host, device)
        self.spaces.await_up(name, "eth0")

    def migrate(self, guest: str, source: str, target: str, bridge: str) -> None:
        """Move a guest to the bridge of another host, as a live migration does."""
        self.spaces.ip(source, f"link set {guest} netns @{target}")
        self.spaces.ip(target, f"link set {guest} master {bridge} up")
        self.spaces.await_up(target, guest)
        self.spaces.await_up(guest, "eth0")

    def _plug(self, host: str, number: int, mtu: int) -> None:
        self.spaces.add(host)
        self.spaces.ip("lan", f"link add p{number} mtu {mtu} type veth peer name eth0 mtu {mtu} netns @{host}")
        self.spaces.ip("lan", f"link set p{number} master lan up")
        self.spaces.ip(host, f"addr add 10.99.0.{number}/24 dev eth0")
        self.spaces.ip(host, "link set eth0 up")
        self.spaces.await_up("lan", f"p{number}")
        self.spaces.await_up(host, "eth0")


class DataplaneInside:
    """The real door, in a namespace."""

    def __init__(self, spaces: Namespaces, name: str) -> None:
        self._spaces, self._name = spaces, name
        with spaces.inside(name):
            self._door = NetlinkDataplane()

    def look(self) -> Seen:
        with self._spaces.inside(self._name):
            return self._door.look()

    def apply(self, change: Change) -> None:
        with self._spaces.inside(self._name):
            self._door.apply(change)

    def apply_many(self, changes: Sequence[Change]) -> None:
        with self._spaces.inside(self._name):
            self._door.apply_many(changes)

    def apply_all(self, changes: Sequence[Change]) -> None:
        """Make changes, one after another."""
        for change in changes:
            self.apply(change)

    def close(self) -> None:
        self._door.close()


class FilterInside:
    """The real door to nftables, in a namespace."""

    def __init__(self, spaces: Namespaces, name: str) -> None:
        self._spaces, self._name = spaces, name
        self._door = NftProgram(RUN)

    def abilities(self) -> Abilities:
        with self._spaces.inside(self._name):
            return self._door.abilities()

    def check(self, ruleset: Ruleset) -> None:
        with self._spaces.inside(self._name):
            self._door.check(ruleset)

    def apply(self, ruleset: Ruleset) -> None:
        with self._spaces.inside(self._name):
            self._door.apply(ruleset)

    def read(self) -> str:
        with self._spaces.inside(self._name):
            return self._door.read()

    def counts(self) -> Mapping[str, Count]:
        with self._spaces.inside(self._name):
            return self._door.counts()

    def intruders(self) -> tuple[str, ...]:
        with self._spaces.inside(self._name):
            return self._door.intruders()

    def exclude(self, intruders: Sequence[str]) -> None:
        with self._spaces.inside(self._name):
            self._door.exclude(intruders)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "setns")
