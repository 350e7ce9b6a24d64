"""The configuration of our FRR, and the steps that lead to it from what runs. Decides; starts nothing."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from pvc.plugins.networking.dataplane import Link
from pvc.plugins.networking.evpn.daemons import Program, Seen, Speaker

GROUP = "fabric"
"""The peer group that holds what is the same for all peers."""
BGP_PORT = 179
"""RFC 4271."""

ZEBRA = """\
ip nht resolve-via-default
no zebra nexthop kernel enable
route-map nothing deny 10
ip protocol any route-map nothing
ipv6 protocol any route-map nothing
"""
"""Without the route map and the line before it, zebra takes the routes that the host's own routing daemons have made
for its own: it writes them once more, and deletes their nexthop objects (tried with FRR 8.4)."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Take all entries from our tunnels: nobody has looked after them since."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start a daemon with this configuration."""

    program: Program
    text: str


@dataclass(frozen=True, slots=True)
class End:
    """End a daemon."""

    program: Program


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell bgpd these commands."""

    commands: tuple[str, ...]


Step = Sweep | Start | End | Tell


def texts(speaker: Speaker) -> dict[Program, str]:
    """The configuration that each daemon is started with, in the order of their start."""
    bfdd = {Program.BFDD: "! nothing: bgpd tells it whom to watch\n"} if speaker.bfd else {}
    return {Program.ZEBRA: ZEBRA, **bfdd, Program.BGPD: bgpd_text(speaker)}


def bgpd_text(speaker: Speaker) -> str:
    """What bgpd is started with: all but the peers, which come and go. The first line is of no meaning to it; with it
    the text holds all that needs a new start."""
    lines = [
        f"! listens on {speaker.address} port {speaker.port}",
        f"router bgp {speaker.asn}",
        f" bgp router-id {speaker.address}",
        " no bgp default ipv4-unicast",
        " timers bgp 3 9",
        " coalesce-time 10",
        f" neighbor {GROUP} peer-group",
        f" neighbor {GROUP} remote-as internal",
        f" neighbor {GROUP} update-source {speaker.address}",
        f" neighbor {GROUP} timers connect 1",
        f" neighbor {GROUP} advertisement-interval 0",
        *([f" neighbor {GROUP} bfd 3 300 300"] if speaker.bfd else []),
        " address-family l2vpn evpn",
        f"  neighbor {GROUP} activate",
        *([f"  neighbor {GROUP} route-reflector-client"] if speaker.reflects else []),
        "  advertise-all-vni",
        " exit-address-family",
    ]
    return "\n".join(lines) + "\n"


def commands(speaker: Speaker, has: Iterable[str], wants: Iterable[str]) -> tuple[str, ...]:
    """What makes bgpd's peers those that are wanted; nothing where they are. The others' sessions stay up."""
    missing, extra = set(wants) - set(has), set(has) - set(wants)
    told = [f"no neighbor {address}" for address in sorted(extra, key=ip_address)]
    for address in sorted(missing, key=ip_address):
        told.append(f"neighbor {address} peer-group {GROUP}")
        if speaker.port != BGP_PORT:
            told.append(f"neighbor {address} port {speaker.port}")
    return ("configure terminal", f"router bgp {speaker.asn}", *told) if told else ()


def peers_of(speaker: Speaker, neighbors: Iterable[str], nodes: Iterable[str]) -> list[str]:
    """Whom a node talks to, of the addresses of all: to the route reflectors if there are any, else and if it is one
    itself to every other node that has an IPv4 address."""
    reflectors = set(neighbors)
    everybody = {address for address in nodes if _is_ipv4(address)} if not reflectors or speaker.reflects else set()
    return sorted((reflectors | everybody) - {speaker.address})


def next_steps(seen: Seen, speaker: Speaker | None, peers: Iterable[str]) -> tuple[Step, ...]:
    """What to do; nothing where all is as it should be. `speaker` None: no daemon of ours is to run."""
    wanted = texts(speaker) if speaker else {}
    return (*_ends(seen.running, wanted), *_starts(seen, speaker, wanted, peers))


def foreign(links: Mapping[str, Link]) -> list[str]:
    """The tunnels that are not pvc's. zebra cannot be told to leave them alone: it would add entries for their VNIs,
    and in the end delete their own."""
    return sorted(link.name for link in links.values() if link.kind == "vxlan" and not link.owned)


def problem(address: str, links: Mapping[str, Link]) -> str:
    """Why EVPN cannot be begun on this node; empty: it can."""
    if not _is_ipv4(address):
        return (
            "the fabric evpn needs an IPv4 address of this node; set `address` in pvc.yaml, or `fabric: static` on all "
            "nodes"
        )
    if names := foreign(links):
        return f"FRR would change {_devices(names)}, not made by pvc; remove that, or set `fabric: static` on all nodes"
    return ""


def warnings(links: Mapping[str, Link], sessions: Mapping[str, bool], names: Mapping[str, str]) -> list[str]:
    """What is not as it should be though it runs; `names`: of the nodes, by address."""
    found = []
    if foreigners := foreign(links):
        found.append(
            f"FRR may change the entries of {_devices(foreigners)}, which came later and is not pvc's; remove that"
        )
    if down := sorted((address for address, up in sessions.items() if not up), key=ip_address):
        told = ", ".join(f"{names[address]} ({address})" if address in names else address for address in down)
        found.append(
            f"no BGP session with {told}: no frames go there; see whether pvcd runs there with `fabric: evpn`, and "
            "whether the port of BGP is open"
        )
    return found


def fabric_in_words(speaker: Speaker | None) -> str:
    """What must be the same on all nodes; None: static."""
    return "static" if speaker is None else f"evpn, AS {speaker.asn}, port {speaker.port}"


def disagreement(own: str, others: Mapping[str, str]) -> str:
    """Which nodes have another fabric, by what they publish, and what to do; empty: none."""
    different: dict[str, list[str]] = {}
    for node, fabric in sorted(others.items()):
        if fabric != own:
            different.setdefault(fabric, []).append(node)
    if not different:
        return ""
    told = "; ".join(f"{', '.join(nodes)}: {fabric}" for fabric, nodes in sorted(different.items()))
    return (
        f"the fabric of this node is {own}, but not of all ({told}), so VMs there are not reached; set "
        "`networking.fabric` and `networking.evpn` alike in pvc.yaml on all nodes, and restart pvcd"
    )


def _ends(running: Mapping[Program, str], wanted: Mapping[Program, str]) -> Iterator[End]:
    """Those that are not wanted, or not so; with zebra all, since only a bgpd that begins anew tells it everything at
    once. bgpd first: it then takes leave of its peers."""
    all_of_them = running.get(Program.ZEBRA) != wanted.get(Program.ZEBRA)
    for program in (Program.BGPD, Program.BFDD, Program.ZEBRA):
        if program in running and (all_of_them or running[program] != wanted.get(program)):
            yield End(program)


def _starts(
    seen: Seen, speaker: Speaker | None, wanted: Mapping[Program, str], peers: Iterable[str]
) -> Iterator[Sweep | Start | Tell]:
    if speaker is None:
        return
    ended = {end.program for end in _ends(seen.running, wanted)}
    kept = {program for program in seen.running if program not in ended}
    if Program.ZEBRA not in kept:
        yield Sweep()
    for program, text in wanted.items():
        if program not in kept:
            yield Start(program, text)
    if told := commands(speaker, seen.peers if Program.BGPD in kept else (), peers):
        yield Tell(told)


def _devices(names: list[str]) -> str:
    return f"the tunnel {names[0]}" if len(names) == 1 else f"the tunnels {', '.join(names)}"


def _is_ipv4(address: str) -> bool:
    try:
        return ip_address(address).version == 4
    except ValueError:
        return False
