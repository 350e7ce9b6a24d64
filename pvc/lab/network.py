"""The lab's networks: the cluster's own and the one outside, a cable of each host to its own, and the cuts in them.

Cuts are made on the bridges, so that the hosts' own firewalls stay theirs; packets vanish silently, as they do when a
switch fails. Only this module speaks to `ip` and `nft`, and only inside the lab.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pvc.core.process import Finished
from pvc.lab.errors import LabError
from pvc.lab.shape import UPSTREAM, Host, Kind

DEVICES = {"lan": "eth0", "wan": "eth1"}
"""What a host's cable to each bridge is called on the host."""
TABLE = "bridge pvc_lab"
RULES = f"""\
table {TABLE} {{
        set isolated {{ type ifname; }}
        set cut {{ type ipv4_addr . ipv4_addr; }}
        chain forward {{
                type filter hook forward priority 0; policy accept;
                iifname @isolated drop
                oifname @isolated drop
                ip saddr . ip daddr @cut drop
        }}
}}
"""

RunInLab = Callable[[Sequence[str], str], Finished]
"""Runs a command in the lab's own namespaces with that text as its standard input."""


def bridge_batch(hosts: Iterable[Host]) -> str:
    """Input of `ip -batch` that makes the bridges, the hosts' network namespaces and the cables."""
    hosts = list(hosts)
    lines = ["link set lo up"]
    for bridge in sorted({bridge for host in hosts for bridge in host.bridges}):
        lines += [
            f"link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {bridge} up",
        ]
    for host in hosts:
        lines.append(f"netns add {host.name}")
        for bridge in host.bridges:
            name = port(host, bridge)
            lines += [
                f"link add {name} type veth peer name {DEVICES[bridge]} netns {host.name}",
                f"link set {name} master {bridge} up",
            ]
    return "\n".join(lines) + "\n"


def port(host: Host, bridge: str) -> str:
    """The bridge's end of a host's cable."""
    return host.name if bridge == "lan" else f"{host.name}-{bridge}"


def host_batch(host: Host) -> str:
    """Input of `ip -n HOST -batch` that brings the host's ends of its cables up. A node has no address outside."""
    lines = ["link set lo up", *(f"link set {DEVICES[bridge]} up" for bridge in host.bridges)]
    if host.kind is Kind.UPSTREAM:
        ipv4, ipv6 = UPSTREAM
        lines += [f"addr add {ipv4}/24 dev eth1", f"addr add {ipv6}/64 dev eth1 nodad"]
    else:
        lines.append(f"addr add {host.address}/16 dev eth0")
    return "\n".join(lines) + "\n"


def cut_commands(host: Host, others: Sequence[Host] | None) -> str:
    """Input of `nft -f` that cuts a host off from some others, both ways; None: from everybody.

    Nodes have no address outside that could be told apart: there, its whole cable is cut.
    """
    if others is None:
        return _isolate([port(host, bridge) for bridge in host.bridges])
    if Kind.UPSTREAM in (host.kind, *(other.kind for other in others)):
        return _isolate([port(each, "wan") for each in (host, *others) if {"lan", "wan"} <= set(each.bridges)])
    pairs = [f"{a} . {b}" for o in others for a, b in ((host.address, o.address), (o.address, host.address))]
    return f"add element {TABLE} cut {{ {', '.join(pairs)} }}\n"


def _isolate(ports: Sequence[str]) -> str:
    names = ", ".join(f'"{name}"' for name in ports)
    return f"add element {TABLE} isolated {{ {names} }}\n" if names else ""


class Network:
    """The networks of one running lab."""

    def __init__(self, run: RunInLab) -> None:
        self._run = run

    def make(self, hosts: Sequence[Host]) -> None:
        """Make the bridges, the cables of each host, and the table of cuts."""
        self._check(["ip", "-batch", "-"], bridge_batch(hosts))
        for host in hosts:
            self._check(["ip", "-n", host.name, "-batch", "-"], host_batch(host))
        self._check(["nft", "-f", "-"], RULES)

    def plug(self, host: Host, *, connected: bool) -> None:
        """Plug a host's cables in, or pull them."""
        to = "up" if connected else "down"
        self._check(["ip", "-batch", "-"], "".join(f"link set {port(host, name)} {to}\n" for name in host.bridges))

    def cut(self, host: Host, others: Sequence[Host] | None) -> None:
        """Drop all packets between a host and some others; None: everybody."""
        self._check(["nft", "-f", "-"], cut_commands(host, others))

    def cuts(self, hosts: Sequence[Host]) -> dict[str, list[str]]:
        """For each host that is cut off, from whom; `all` for everybody."""
        listing = self._check(["nft", "--json", "list", "table", *TABLE.split()], "")
        return cuts_in(listing, {host.address: host.name for host in hosts})

    def heal(self, host: Host | None) -> None:
        """Undo the cuts of one host; None: of all."""
        if host is None:
            self._check(["nft", "-f", "-"], f"flush set {TABLE} isolated\nflush set {TABLE} cut\n")
            return
        listing = self._check(["nft", "--json", "list", "table", *TABLE.split()], "")
        self._check(["nft", "-f", "-"], heal_commands(listing, host))

    def _check(self, command: Sequence[str], text: str) -> str:
        done = self._run(command, text)
        if done.code != 0:
            said = (done.stderr or done.stdout).strip()
            raise LabError(f"the lab's network refused `{' '.join(command)}`: {said}; take the lab down and up again")
        return done.stdout


def isolated_in(listing: str) -> list[str]:
    """The bridges' ends of the cables that are cut, from nft's JSON."""
    return [str(element) for element in _elements(listing, "isolated")]


def pairs_in(listing: str) -> list[tuple[str, str]]:
    """Pairs of addresses between which packets are dropped, from nft's JSON."""
    return [(source, target) for source, target in (element["concat"] for element in _elements(listing, "cut"))]


def cuts_in(listing: str, names: dict[str, str]) -> dict[str, list[str]]:
    """For each host with cuts, from whom, sorted; `all` for everybody."""
    found: dict[str, set[str]] = {}
    ports = isolated_in(listing)
    for name in ports:
        host = name.removesuffix("-wan")
        everybody = host in ports or host == "upstream"
        found.setdefault(host, set()).add("all" if everybody else "upstream")
    for source, target in pairs_in(listing):
        found.setdefault(names.get(source, source), set()).add(names.get(target, target))
    return {name: sorted(others) for name, others in sorted(found.items())}


def heal_commands(listing: str, host: Host) -> str:
    """Input of `nft -f` that takes out every cut which names the host."""
    own = [port(host, bridge) for bridge in host.bridges]
    commands = [f'delete element {TABLE} isolated {{ "{name}" }}' for name in isolated_in(listing) if name in own]
    commands += [
        f"delete element {TABLE} cut {{ {source} . {target} }}"
        for source, target in pairs_in(listing)
        if host.address in (source, target)
    ]
    return "".join(f"{command}\n" for command in commands)


def _elements(listing: str, name: str) -> list[Any]:
    for entry in json.loads(listing)["nftables"]:
        found = entry.get("set")
        if found and found["name"] == name:
            return list(found.get("elem", []))
    return []
