"""Which addresses belong to which MAC address of a network: given once, and kept until they are released.

The gateway's holder asks, and writes down the answer before it tells any VM.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pvc.core.model import Finding, Severity
from pvc.plugins.networking.gateway.decide.pools import Pool, number_of, pools, why_no_host
from pvc.plugins.networking.records import Lease, Network, Ports
from pvc.plugins.networking.schema import SECTION

MOST = 10_000
"""Leases that are kept of one network; beyond that those of VMs that are gone make room, the oldest first."""
NAMED = 5
"""How many things a message names."""


def allocate(
    network: Network,
    leases: Mapping[str, Lease],
    macs: Mapping[str, str],
    now: float,
    most: int = MOST,
    *,
    complete: bool = True,
) -> dict[str, Lease]:
    """The leases that are new or other than before, by MAC address; one without any address is to be deleted.

    `macs`: the MAC addresses on the network now, each with the name of its VM. `now`: seconds since the epoch. Applying
    the answer from its first entry on never gives one address to two, even if it is done in parts. `most`: leases.
    `complete`: nobody else is on the network. If that is not known, no lease makes room for another.
    """
    if not network.dhcp:
        return {}
    drafts = {mac: _Draft(lease) for mac, lease in leases.items()}
    for mac, name in macs.items():
        draft = drafts.setdefault(mac, _Draft(Lease(mac)))
        if name and name != draft.lease.name:
            draft.lease = replace(draft.lease, name=name)
    known = pools(network)
    for version in (4, 6):
        _settle(version, known.get(version), drafts, macs, now, complete=complete)
    if complete:
        _forget(drafts, macs, most)
    changed = {mac: draft.lease for mac, draft in drafts.items() if draft.lease != leases.get(mac)}
    wanted = {mac: lease for mac, lease in changed.items() if mac in leases or has_address(lease)}
    return dict(sorted(wanted.items(), key=lambda each: (drafts[each[0]].gains, each[0])))


def has_address(lease: Lease) -> bool:
    """Whether any address belongs to it."""
    return lease.ipv4 is not None or lease.ipv6 is not None


def address_of(lease: Lease, version: int) -> str | None:
    """Its address of this version of IP."""
    return lease.ipv4 if version == 4 else lease.ipv6


def with_address(lease: Lease, version: int, address: str | None) -> Lease:
    """The lease with another address of this version of IP."""
    return replace(lease, ipv4=address) if version == 4 else replace(lease, ipv6=address)


def astray(network: Network, leases: Mapping[str, Lease]) -> list[str]:
    """The reservations that the network as it is cannot keep, in words."""
    found = []
    for mac, lease in sorted(leases.items()):
        for version in (4, 6) if lease.reserved else ():
            address = address_of(lease, version)
            if address is not None and (why := why_no_host(network, address, version)):
                found.append(f"{lease.name or 'nobody'} ({mac}): {why}")
    return found


def shortages(
    network: Network, leases: Mapping[str, Lease], macs: Mapping[str, str], *, complete: bool = True
) -> list[str]:
    """For each version of IP of which `allocate` has none left for a VM that is here: what to do."""
    found = []
    for version, pool in pools(network).items() if network.dhcp else ():
        without = [mac for mac in macs if mac not in leases or address_of(leases[mac], version) is None]
        taken = {_number(lease, version) for lease in leases.values()}
        if not without or pool.choose("", taken) is not None:
            continue
        if complete and _reusable(version, pool, leases, macs):
            continue
        names = [macs[mac] or mac for mac in sorted(without)]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        wider = "a wider --dhcp-range or --ipv4" if version == 4 else "a larger --ipv6"
        found.append(
            f"network {network.name} is full: {pool.size} IPv{version} addresses, and none for"
            f" {', '.join(names[:NAMED])}{more}; give it {wider} with `pvc network modify {network.name}`, or free"
            f" addresses that `pvc network reservation list {network.name}` shows"
        )
    return found


def findings(
    network: Network,
    leases: Mapping[str, Lease],
    macs: Mapping[str, str],
    ports: Mapping[str, Ports],
    unread: Sequence[str] = (),
) -> list[Finding]:
    """What is wrong with a network's addresses, for the node that has its gateway. `ports`: by node; `unread`: the
    nodes of which nobody knows."""
    texts = shortages(network, leases, macs, complete=not unread)
    if unread:
        texts.append(
            f"network {network.name}: which VMs are on it cannot be read of {', '.join(sorted(unread)[:NAMED])}, so no"
            " address of a VM that is gone is given to another; see that the daemon runs there: it writes it anew"
        )
    if lost := astray(network, leases):
        texts.append(f"network {network.name}: reservations that cannot be kept: {'; '.join(lost[:NAMED])}")
    for mac, names in list(shared(ports).items())[:NAMED]:
        texts.append(
            f"network {network.name}: {' and '.join(names)} have the same MAC address {mac}, and share one address;"
            " give each its own in its definition"
        )
    return [Finding(SECTION, Severity.WARNING, text) for text in texts]


def shared(ports: Mapping[str, Ports]) -> dict[str, tuple[str, ...]]:
    """The MAC addresses that different VMs on different nodes have; a VM on its way is on two nodes by one name."""
    found: dict[str, set[str]] = {}
    for node in ports.values():
        for mac, name in node.names.items():
            if name and mac in node.macs:
                found.setdefault(mac, set()).add(name)
    return {mac: tuple(sorted(names)) for mac, names in sorted(found.items()) if len(names) > 1}


@dataclass(slots=True)
class _Draft:
    """A lease while it is decided on."""

    lease: Lease
    gains: bool = False
    """It gets an address that may have been another's, so it is written after that one."""


def _settle(
    version: int, pool: Pool | None, drafts: dict[str, _Draft], macs: Mapping[str, str], now: float, *, complete: bool
) -> None:
    """Give each VM that is here an address of this version of IP, if there is one."""
    taken = _kept(version, pool, drafts, macs)
    if pool is None:
        return
    free = pool.size - sum(1 for number in taken if pool.may(number))
    lapsed: Iterator[str] | None = None
    for mac in sorted(macs):
        draft = drafts[mac]
        if address_of(draft.lease, version) is not None:
            continue
        if free > 0:
            number = pool.choose(mac, taken)
            free -= 1
        else:
            if lapsed is None:
                leases = {mac: draft.lease for mac, draft in drafts.items()}
                lapsed = iter(_reusable(version, pool, leases, macs) if complete else ())
            number = _reused(version, drafts, lapsed)
        if number is None:
            continue
        taken.add(number)
        draft.lease = replace(with_address(draft.lease, version, pool.text(number)), since=now)
        draft.gains = True


def _kept(version: int, pool: Pool | None, drafts: Mapping[str, _Draft], macs: Mapping[str, str]) -> set[int]:
    """The addresses that are in use and stay so; any other is taken from its lease, but never from a reservation."""
    taken: set[int] = set()
    order = sorted(drafts.values(), key=partial(_claim, macs=macs))
    for draft in order:
        if address_of(draft.lease, version) is None:
            continue
        number = _number(draft.lease, version)
        if draft.lease.reserved:
            taken |= set() if number is None else {number}
        elif pool is None or number is None or not pool.may(number) or number in taken:
            draft.lease = with_address(draft.lease, version, None)
        else:
            taken.add(number)
    return taken


def _claim(draft: _Draft, macs: Mapping[str, str]) -> tuple[bool, bool, float, str]:
    """Who of several with the same address keeps it: the least."""
    lease = draft.lease
    return not lease.reserved, lease.mac not in macs, lease.since, lease.mac


def _reusable(version: int, pool: Pool, leases: Mapping[str, Lease], macs: Mapping[str, str]) -> list[str]:
    """The MAC addresses whose address another may have: of VMs that are not here, the oldest first."""
    found = [
        mac
        for mac, lease in leases.items()
        if mac not in macs and not lease.reserved and pool.may(_number(lease, version))
    ]
    return sorted(found, key=lambda mac: (leases[mac].since, mac))


def _reused(version: int, drafts: Mapping[str, _Draft], lapsed: Iterator[str]) -> int | None:
    mac = next(lapsed, None)
    if mac is None:
        return None
    number = _number(drafts[mac].lease, version)
    drafts[mac].lease = with_address(drafts[mac].lease, version, None)
    return number


def _forget(drafts: Mapping[str, _Draft], macs: Mapping[str, str], most: int) -> None:
    """Take the addresses from the oldest leases of VMs that are gone, so that there are not more and more of them."""
    gone = [draft for mac, draft in drafts.items() if mac not in macs and not draft.lease.reserved]
    excess = min(len(drafts) - most, len(gone))
    for draft in sorted(gone, key=lambda draft: draft.lease.since)[: max(excess, 0)]:
        draft.lease = replace(draft.lease, ipv4=None, ipv6=None)


def _number(lease: Lease, version: int) -> int | None:
    return number_of(address_of(lease, version), version)
