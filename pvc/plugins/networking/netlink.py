"""The door to the kernel's network devices by rtnetlink: the only user of pyroute2. Decides nothing.

What pvc makes bears a device group of its own from the moment it exists: a daemon that dies between two changes leaves
nothing behind that it would not know again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

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
LINK_SCOPE = 253
AF_INET6 = 10
SYSCTL = Path("/proc/sys/net/ipv6/conf")


class NetlinkDataplane:
    """The real `Dataplane`, of the network namespace that it is made in. One thread at a time."""

    def __init__(self) -> None:
        with _told("rtnetlink cannot be opened"):
            self._netlink = IPRoute()

    def look(self) -> Seen:
        with _told("the network devices cannot be listed"):
            links = list(self._netlink.get_links())
            addresses = list(self._netlink.get_addr())
            names = {link["index"]: link.get("ifname") for link in links}
            own: dict[int, list[str]] = {}
            for address in addresses:
                if address["scope"] != LINK_SCOPE:
                    own.setdefault(address["index"], []).append(_address(address))
            seen = {link.get("ifname"): _link(link, names, tuple(own.get(link["index"], ()))) for link in links}
            tunnels = {index: name for index, name in names.items() if seen[name].owned and seen[name].kind == "vxlan"}
            traffic = {link.get("ifname"): _traffic(link) for link in links if link.get("master")}
            return Seen(seen, self._forwarding(tunnels), traffic)

    def apply(self, change: Change) -> None:
        with _told(_in_words(change)):
            self._apply(change)

    def close(self) -> None:
        self._netlink.close()

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
                (SYSCTL / name / "disable_ipv6").write_text("1\n")
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
    data, slave = link.get(("linkinfo", "data")), link.get(("linkinfo", "slave_data"))
    kind = link.get(("linkinfo", "kind")) or ""
    inner = (lambda name: data.get(name)) if data else (lambda name: None)
    learning = slave.get("learning") if slave and link.get(("linkinfo", "slave_kind")) == "bridge" else None
    ipv6 = link.get(("af_spec", "af_inet6", "inet6_conf"))
    return Link(
        name=link.get("ifname"),
        kind=kind,
        owned=link.get("group") == MARK,
        up=bool(link["flags"] & IFF_UP),
        mtu=link.get("mtu"),
        master=names.get(link.get("master") or 0, ""),
        learns=learning != 0,
        vni=inner("vxlan_id") if kind == "vxlan" else None,
        local=(inner("vxlan_local") or inner("vxlan_local6") or "") if kind == "vxlan" else "",
        parent=names.get(link.get("link") or 0, "") if kind == "vlan" else "",
        vlan=inner("vlan_id") if kind == "vlan" else None,
        speaks_ipv6=bool(ipv6) and not ipv6["disable_ipv6"],
        addresses=addresses,
    )


def _traffic(link: Any) -> Traffic:
    """What the host has received from a device, those behind it have sent."""
    counted = link.get("stats64") or link.get("stats") or {}
    names = ("tx_bytes", "tx_packets", "rx_bytes", "rx_packets")
    return Traffic(*(int(counted.get(name, 0)) for name in names))


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
