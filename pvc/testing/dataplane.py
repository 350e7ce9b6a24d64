"""Network devices in memory: the public fake of the networking role's `Dataplane`."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

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


class FakeDataplane:
    """The devices of one machine; they outlive its daemon. `address` is on its device eth0."""

    def __init__(self, address: str = "", *, mtu: int = 1500, has_vlans: bool = True) -> None:
        """`has_vlans`: the kernel knows VLANs of devices."""
        self._links: dict[str, Link] = {"lo": Link("lo", up=True, mtu=65536)}
        self._forwarding: dict[str, set[Entry]] = {}
        self._has_vlans = has_vlans
        self.changes: list[Change] = []
        """All that was asked for and done, in order."""
        self.looks = 0
        """How often somebody has looked."""
        self.batches = 0
        """How often many changes were asked for at once."""
        self.traffic: dict[str, Traffic] = {}
        """What devices have counted; nothing if not said."""
        self.refusing = ""
        """Why the kernel refuses every change; empty: it does not."""
        if address:
            self.add("eth0", mtu=mtu, addresses=(address,))

    def look(self) -> Seen:
        self.looks += 1
        forwarding = {name: frozenset(entries) for name, entries in self._forwarding.items()}
        ports = [name for name, link in self._links.items() if link.master]
        return Seen(dict(self._links), forwarding, {name: self.traffic.get(name, Traffic()) for name in ports})

    def apply(self, change: Change) -> None:
        if self.refusing:
            raise DataplaneError(self.refusing)
        self._apply(change)
        self.changes.append(change)

    def apply_many(self, changes: Sequence[Change]) -> None:
        self.batches += 1
        for change in changes:
            with suppress(DataplaneError):
                self.apply(change)

    def close(self) -> None:
        """Everything stays."""

    def add(self, name: str, *, mtu: int = 1500, addresses: Iterable[str] = (), **options: object) -> None:
        """Somebody else makes a device; `options` are further fields of its Link."""
        self._links[name] = replace(Link(name, up=True, mtu=mtu, addresses=tuple(addresses)), **options)  # type: ignore[arg-type]  # any field

    def change(self, name: str, **options: object) -> None:
        """Somebody changes a device by hand."""
        self._links[name] = replace(self._links[name], **options)  # type: ignore[arg-type]  # any field

    def remove(self, name: str) -> None:
        """Somebody removes a device."""
        self._apply(Remove(name))

    def sends(self, tunnel: str, mac: str) -> set[str]:
        """The addresses that a frame to a MAC address goes to through a tunnel."""
        entries = self._forwarding.get(tunnel, set())
        known = {entry.address for entry in entries if entry.mac == mac}
        return known or {entry.address for entry in entries if entry.mac == FLOOD}

    def _apply(self, change: Change) -> None:
        match change:
            case AddBridge(name):
                self._make(Link(name, "bridge", owned=True, speaks_ipv6=True))
            case AddTunnel(name, vni, local):
                if any(link.vni == vni for link in self._links.values()):
                    raise DataplaneError(f"VNI {vni} is in use by another device; remove that")
                self._make(Link(name, "vxlan", owned=True, vni=vni, local=local, speaks_ipv6=True))
                self._forwarding[name] = set()
            case AddVlan(name, parent, vlan):
                if not self._has_vlans:
                    raise DataplaneError("Operation not supported; is the kernel's module for it there?")
                self._make(Link(name, "vlan", owned=True, parent=self._there(parent).name, vlan=vlan, speaks_ipv6=True))
            case Plug(name, bridge):
                self._set(name, master=self._there(bridge).name, learns=True)
            case StopLearning(name):
                if not self._there(name).master:
                    raise DataplaneError(f"{name} is no port of a bridge; plug it in first")
                self._set(name, learns=False)
            case Mute(name):
                self._set(name, speaks_ipv6=False)
            case Resize(name, mtu):
                self._set(name, mtu=mtu)
            case Raise(name):
                self._set(name, up=True)
            case Forward(name, entry):
                self._forward(name, entry)
            case Withdraw(name, entry):
                if entry not in self._forwarding.get(name, ()):
                    raise DataplaneError(f"{name} has no entry {entry}; look again")
                self._forwarding[name].remove(entry)
            case Remove(name):
                self._there(name)
                del self._links[name]
                self._forwarding.pop(name, None)
                for port in [link for link in self._links.values() if link.master == name]:
                    self._set(port.name, master="", learns=True)

    def _forward(self, name: str, entry: Entry) -> None:
        self._there(name)
        if entry.mac != FLOOD:
            self._forwarding[name] = {old for old in self._forwarding[name] if old.mac != entry.mac}
        self._forwarding[name].add(entry)

    def _make(self, link: Link) -> None:
        if link.name in self._links:
            raise DataplaneError(f"{link.name} exists; look again")
        self._links[link.name] = link

    def _there(self, name: str) -> Link:
        if name not in self._links:
            raise DataplaneError(f"there is no device {name}; look again")
        return self._links[name]

    def _set(self, name: str, **options: object) -> None:
        self._links[name] = replace(self._there(name), **options)  # type: ignore[arg-type]  # any field
