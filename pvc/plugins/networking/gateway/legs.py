"""The door to the devices of routers, by rtnetlink: one end of each is a port of a bridge, the other in a namespace.

Touches no device without pvc's mark. All is done in the namespace that the calling thread is in.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pvc.plugins.networking.gateway.routers import Leg, RouterError
from pvc.plugins.networking.netlink import IFF_UP, MARK

NODAD = 0x02
"""Flag of an address: it is used at once, without asking whether somebody else has it (RFC 4429, linux/if_addr.h)."""
STATIC = 4
"""Origin of a route: set by an administrator, or by us (linux/rtnetlink.h)."""
MAIN = 254
FORWARDING = 3
"""State of a bridge's port (linux/if_bridge.h)."""
LINK_LOCAL = int(ip_address("fe80::"))


@dataclass(frozen=True, slots=True)
class Port:
    """The end of a leg that is in a bridge."""

    name: str
    index: int
    owned: bool
    up: bool
    mtu: int
    master: int


class Devices:
    """The network devices of the namespace that the thread is in, for as long as the connection is open."""

    def __init__(self, netlink: IPRoute) -> None:
        self._netlink = netlink

    def port(self, name: str) -> Port | None:
        """A device by its name; None: there is none."""
        try:
            (link,) = self._netlink.link("get", ifname=name)
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                return None
            raise
        group, master = link.get("group"), link.get("master") or 0
        return Port(name, link["index"], group == MARK, bool(link["flags"] & IFF_UP), link.get("mtu"), master)

    def own(self, name: str) -> Port | None:
        """A device of ours by its name. Raises RouterError if it is somebody else's."""
        found = self.port(name)
        if found and not found.owned:
            raise RouterError(f"there is a device {name} already that pvc has not made; remove or rename it")
        return found

    def mark(self, name: str) -> None:
        """Say that a device is ours."""
        self._netlink.link("set", index=self._there(name).index, group=MARK)

    def add(self, name: str, inner: str, namespace: Path, leg: Leg) -> None:
        """Make a leg with both ends down: `name` here, `inner` in the namespace."""
        peer = {"ifname": inner, "net_ns_fd": str(namespace), "address": leg.mac, "mtu": leg.mtu}
        # The port's own address is high: a bridge without one of its own takes the lowest among its ports.
        outer = {"address": f"fe{leg.mac[2:]}", "mtu": leg.mtu}
        self._netlink.link("add", ifname=name, kind="veth", group=MARK, peer=peer, **outer)

    def plug(self, port: Port, leg: Leg) -> None:
        """Have a port be in the leg's bridge, with the leg's MTU. Raises RouterError."""
        bridge = self.port(leg.bridge)
        if bridge is None:
            raise RouterError(f"there is no bridge {leg.bridge} for {port.name} yet; look at `pvc network list`")
        if port.mtu != leg.mtu:
            self._netlink.link("set", index=port.index, mtu=leg.mtu)
        if port.master != bridge.index:
            with suppress(FileNotFoundError):  # a kernel without IPv6
                Path("/proc/sys/net/ipv6/conf", port.name, "disable_ipv6").write_text("1\n")
            self._netlink.link("set", index=port.index, master=bridge.index)

    def switch(self, port: Port, up: bool) -> None:
        """Switch a device on or off."""
        if port.up != up:
            self._netlink.link("set", index=port.index, state="up" if up else "down")

    def remove(self, port: Port) -> None:
        """Remove a device, and its other end."""
        self._netlink.link("del", index=port.index)

    def forwarding(self, name: str) -> bool:
        """Whether the bridge has seen that a port is up: until then it drops what comes from it."""
        (link,) = self._netlink.link("get", ifname=name)
        bridge = link.get(("linkinfo", "slave_data"))
        return bool(bridge and bridge.get("state") == FORWARDING)

    def sent(self, name: str) -> int:
        """How many frames have left by a device."""
        (link,) = self._netlink.link("get", ifname=name)
        return int(link.get("stats64")["tx_packets"])

    def fit(self, name: str, leg: Leg) -> None:
        """Have the inner end of a leg be as wanted, with its addresses, and up; what is so is not touched."""
        (link,) = self._netlink.link("get", ifname=name)
        changes: dict[str, object] = {}
        if link.get("address") != leg.mac.lower():
            changes["address"] = leg.mac
        if link.get("mtu") != leg.mtu:
            changes["mtu"] = leg.mtu
        if changes:
            self._netlink.link("set", index=link["index"], **changes)
        if not link["flags"] & IFF_UP:
            self._netlink.link("set", index=link["index"], state="up")
        self._address(link["index"], leg)

    def _address(self, index: int, leg: Leg) -> None:
        wanted = {ip_interface(each) for each in leg.addresses}
        if not any(isinstance(each, IPv6Interface) and each.is_link_local for each in wanted):
            wanted.add(link_local(leg.mac))
        seen = self._netlink.get_addr(index=index)
        there = {ip_interface(f"{each.get('local') or each.get('address')}/{each['prefixlen']}") for each in seen}
        for own in there - wanted:
            self._netlink.addr("del", index=index, address=str(own.ip), prefixlen=own.network.prefixlen)
        for own in wanted - there:
            flags = {"flags": NODAD} if own.version == 6 else {}
            self._netlink.addr("add", index=index, address=str(own.ip), prefixlen=own.network.prefixlen, **flags)

    def lead(self, legs: Mapping[str, Leg]) -> None:
        """Have the routes of the legs and no others, but what the kernel has made for addresses."""
        wanted: dict[str, tuple[int, str]] = {}
        for name, leg in legs.items():
            index = self._there(name).index
            wanted.update({str(ip_network(route.subnet)): (index, str(ip_address(route.via))) for route in leg.routes})
        there = {subnet: way for family in (AF_INET, AF_INET6) for subnet, way in self._routes(family)}
        for subnet, (index, via) in wanted.items():
            if there.get(subnet) != (index, via):
                self._route("replace" if subnet in there else "add", subnet, index, via)
        for subnet in there.keys() - wanted.keys():
            self._route("del", subnet, *there[subnet])

    def _routes(self, family: int) -> Iterator[tuple[str, tuple[int, str]]]:
        for route in self._netlink.get_routes(family=family, table=MAIN):
            if route["proto"] != STATIC or route["type"] != 1:
                continue
            everything = "0.0.0.0" if family == AF_INET else "::"
            over = route.get("via")
            via = route.get("gateway") or (over and over["addr"]) or everything
            yield f"{route.get('dst') or everything}/{route['dst_len']}", (route.get("oif") or 0, str(ip_address(via)))

    def _route(self, how: str, subnet: str, index: int, via: str) -> None:
        crossing = ip_network(subnet).version == 4 and ip_address(via).version == 6
        way = {"via": {"family": AF_INET6, "addr": via}} if crossing else {"gateway": via}
        try:
            self._netlink.route(how, dst=subnet, oif=index, proto=STATIC, table=MAIN, **way)
        except NetlinkError as error:
            raise RouterError(
                f"the kernel takes no route to {subnet} by {via}: {_said(error)};"
                " the next router must be in a subnet of the leg, and not the leg itself"
            ) from error

    def _there(self, name: str) -> Port:
        found = self.port(name)
        if found is None:
            raise RouterError(f"there is no device {name}; somebody has just removed it")
        return found


@contextmanager
def devices(what: str) -> Iterator[Devices]:
    """The devices of the namespace that the thread is in. Raises RouterError, with `what` is being done in it."""
    try:
        with IPRoute() as netlink:
            yield Devices(netlink)
    except NetlinkError as error:
        raise RouterError(f"{what}: the kernel refuses: {_said(error)}; look at `ip -details link`") from error
    except OSError as error:
        raise RouterError(f"{what}: {error.strerror or error}; look at `ip -details link`") from error


def _said(error: NetlinkError) -> str:
    return str(error.args[1] if len(error.args) > 1 else error)


def link_local(mac: str) -> IPv6Interface:
    """The address that a MAC address makes (RFC 4291, appendix A): the same wherever the router is."""
    octets = bytes.fromhex(mac.replace(":", ""))
    own = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return IPv6Interface((LINK_LOCAL | int.from_bytes(own, "big"), 64))
