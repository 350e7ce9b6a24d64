"""The door to the kernel's network devices by rtnetlink: the only user of pyroute2. Decides nothing.

Very many changes at once go through iproute2's programs: a message of pyroute2's takes ten times as long as a line.

What pvc makes bears a device group of its own from the moment it exists: a daemon that dies between two changes leaves
nothing behind that it would not know again.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pvc.core.process import CommandFailed, Processes, SystemProcesses
from pvc.plugins.networking.dataplane import (
    FLOOD,
    AddBridge,
    AddTunnel,
    AddVlan,
    Change,
    DataplaneError,
    Entry,
    Forward,
    Link,
    Mute,
    Plug,
    Raise,
    Remove,
    Resize,
    Seen,
    StopLearning,
    Withdraw,
)
from pvc.plugins.networking.decide.batches import batches
from pvc.plugins.networking.records import Traffic

MARK = 0x707663
"""Number of the device group ("pvc") that marks what pvc has made; groups are set as a device is created."""
PORT = 4789
"""UDP port of VXLAN (RFC 7348)."""
IFF_UP = 0x1
NTF_SELF = 0x02
"""Of a forwarding entry: it is the device's own, not its bridge's (linux/neighbour.h)."""
PERMANENT = 0x80 | 0x40
"""State of a forwarding entry that nothing but a request removes: permanent, and never asked for by ARP."""
SKIP_STATISTICS = 0x08
"""As a filter of links: leave out the counters, which take time to decode (linux/rtnetlink.h)."""
LINK_SCOPE = 253
AF_INET6 = 10
SYSCTL = Path("/proc/sys/net/ipv6/conf")
COUNTERS = Path("/proc/thread-self/net/dev")
"""Bytes and packets of each device, of the thread's own network namespace (proc_net(5))."""
PATIENCE = 60.0
"""Seconds that a batch may take: thousands of lines take less than one."""


class NetlinkDataplane:
    """The real `Dataplane`, of the network namespace that it is made in. One thread at a time."""

    def __init__(self, processes: Processes | None = None) -> None:
        self._processes = processes or SystemProcesses()
        with _told("rtnetlink cannot be opened"):
            self._netlink = IPRoute()

    def look(self) -> Seen:
        with _told("the network devices cannot be listed"):
            links = list(self._netlink.get_links(ext_mask=SKIP_STATISTICS))
            addresses = list(self._netlink.get_addr())
            names = {link["index"]: link.get("ifname") for link in links}
            own: dict[int, list[str]] = {}
            for address in addresses:
                if address["scope"] != LINK_SCOPE:
                    own.setdefault(address["index"], []).append(_address(address))
            seen = {names[link["index"]]: _link(link, names, tuple(own.get(link["index"], ()))) for link in links}
            tunnels = {index: name for index, name in names.items() if seen[name].owned and seen[name].kind == "vxlan"}
            ports = {name for name, link in seen.items() if link.master}
            return Seen(seen, self._forwarding(tunnels), _traffic(ports))

    def apply(self, change: Change) -> None:
        with _told(_in_words(change)):
            self._apply(change)

    def apply_many(self, changes: Sequence[Change]) -> None:
        parts = batches(changes, mark=MARK, port=PORT)
        self._batch("ip", parts.devices)
        for name in parts.muted:
            with suppress(OSError):
                self._mute(name)
        self._batch("bridge", parts.forwarding)
        self._batch("ip", parts.raised)

    def close(self) -> None:
        self._netlink.close()

    def _batch(self, program: str, lines: str) -> None:
        """Without the program nothing happens here: what is left undone is applied one by one."""
        with suppress(CommandFailed):
            if lines:
                self._processes.run([program, "-force", "-batch", "-"], timeout=PATIENCE, stdin=lines)

    def _mute(self, name: str) -> None:
        (SYSCTL / name / "disable_ipv6").write_text("1\n")

    def _apply(self, change: Change) -> None:
        match change:
            case AddBridge(name):
                quiet = {"br_stp_state": 0, "br_forward_delay": 0, "br_mcast_snooping": 0}
                self._netlink.link("add", ifname=name, kind="bridge", group=MARK, **quiet)
            case AddTunnel(name, vni, local):
                source = {"vxlan_local6" if ":" in local else "vxlan_local": local}
                options = {"vxlan_id": vni, "vxlan_port": PORT, "vxlan_learning": False, **source}
                self._netlink.link("add", ifname=name, kind="vxlan", group=MARK, **options)
            case AddVlan(name, parent, vlan):
                self._netlink.link("add", ifname=name, kind="vlan", group=MARK, link=self._index(parent), vlan_id=vlan)
            case Plug(name, bridge):
                self._netlink.link("set", index=self._index(name), master=self._index(bridge))
            case StopLearning(name):
                self._netlink.brport("set", index=self._index(name), learning=False)
            case Mute(name):
                self._mute(name)
            case Resize(name, mtu):
                self._netlink.link("set", index=self._index(name), mtu=mtu)
            case Raise(name):
                self._netlink.link("set", index=self._index(name), state="up")
            case Forward(name, entry):
                self._entry("append" if entry.mac == FLOOD else "replace", name, entry)
            case Withdraw(name, entry):
                self._entry("del", name, entry)
            case Remove(name):
                self._netlink.link("del", index=self._index(name))

    def _entry(self, how: str, name: str, entry: Entry) -> None:
        where = {"ifindex": self._index(name), "lladdr": entry.mac, "dst": entry.address}
        self._netlink.fdb(how, state=PERMANENT, flags=NTF_SELF, **where)

    def _index(self, name: str) -> int:
        found: list[int] = list(self._netlink.link_lookup(ifname=name))
        if not found:
            raise DataplaneError(f"there is no device {name}; it has just been removed by somebody else")
        return found[0]

    def _forwarding(self, tunnels: Mapping[int, str]) -> dict[str, frozenset[Entry]]:
        found: dict[str, set[Entry]] = {name: set() for name in tunnels.values()}
        for entry in self._netlink.fdb("dump") if tunnels else ():
            if entry["ifindex"] in tunnels and entry["flags"] & NTF_SELF and entry.get("dst"):
                found[tunnels[entry["ifindex"]]].add(Entry(entry.get("lladdr"), entry.get("dst")))
        return {name: frozenset(entries) for name, entries in found.items()}


def _link(link: Any, names: Mapping[int, str], addresses: tuple[str, ...]) -> Link:
    info = link.get("linkinfo")  # each part is asked for once: pyroute2 decodes it anew every time
    kind = (info.get("kind") if info else None) or ""
    data = info.get("data") if info and kind in ("vxlan", "vlan") else None
    port = info.get("slave_data") if info and info.get("slave_kind") == "bridge" else None
    tunnel = data if kind == "vxlan" else None
    name, owned = names[link["index"]], link.get("group") == MARK
    return Link(
        name=name,
        kind=kind,
        owned=owned,
        up=bool(link["flags"] & IFF_UP),
        mtu=link.get("mtu"),
        master=names.get(link.get("master") or 0, ""),
        learns=(port.get("learning") if port else None) != 0,
        vni=tunnel.get("vxlan_id") if tunnel else None,
        local=(tunnel.get("vxlan_local") or tunnel.get("vxlan_local6") or "") if tunnel else "",
        parent=names.get(link.get("link") or 0, "") if kind == "vlan" else "",
        vlan=data.get("vlan_id") if kind == "vlan" and data else None,
        speaks_ipv6=owned and _speaks_ipv6(name),
        addresses=addresses,
    )


def _speaks_ipv6(name: str) -> bool:
    """Read from a file: in netlink's answer it is among so much else that decoding that takes most of a look."""
    try:
        return (SYSCTL / name / "disable_ipv6").read_text().strip() == "0"
    except OSError:  # the device has just gone, or the kernel has no IPv6
        return False


def _traffic(ports: Container[str]) -> dict[str, Traffic]:
    """What each of the ports has counted; what the host has received from one, those behind it have sent.

    From a file for the same reason.
    """
    found = {}
    for line in COUNTERS.read_text().splitlines()[2:]:
        name, _, counts = line.partition(":")
        if (device := name.strip()) in ports:
            values = [int(count) for count in counts.split()]
            found[device] = Traffic(values[8], values[9], values[0], values[1])
    return found


def _address(message: Any) -> str:
    """The host's own: on a point-to-point device `address` is the other end's."""
    return str(ip_address(message.get("local") or message.get("address")))


def _in_words(change: Change) -> str:
    return f"{type(change).__name__.lower()} {change.name} was refused"


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        hint = "is the kernel's module for it there?" if error.code == 95 else "look at `ip -details link`"
        raise DataplaneError(f"{what}: {error.args[1] if len(error.args) > 1 else error}; {hint}") from error
    except OSError as error:
        raise DataplaneError(f"{what}: {error.strerror or error}; look at `ip -details link`") from error
