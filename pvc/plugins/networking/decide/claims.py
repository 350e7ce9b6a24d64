"""Which node a MAC address is on, when several say it is theirs; and what a node claims."""

from collections.abc import Collection, Mapping

from pvc.plugins.networking.records import Ports

MOST = 4000
"""MAC addresses of one network on one node; the znode then has about 120 KB, far from what one may have."""


def claim(here: Collection[str], mine: Ports, others: Mapping[str, Ports]) -> Ports:
    """What to publish for these MAC addresses: what is claimed already keeps its turn, anything new is beyond all."""
    kept = {mac: mine.macs[mac] for mac in here if mac in mine.macs}
    new = {mac: 1 + max((ports.macs.get(mac, 0) for ports in others.values()), default=0) for mac in here}
    return Ports(dict(sorted({**new, **kept}.items())[:MOST]))


def elsewhere(me: str, here: Collection[str], ports: Mapping[str, Ports]) -> dict[str, str]:
    """The MAC addresses on other nodes, each with its node; of several the one whose turn is highest.

    What runs here is here, whoever else claims it: its own port of the bridge must not be bypassed.
    """
    best: dict[str, tuple[int, str]] = {}
    for node, claimed in sorted(ports.items()):
        for mac, turn in claimed.macs.items():
            if mac not in best or turn > best[mac][0]:
                best[mac] = (turn, node)
    return {mac: node for mac, (_, node) in sorted(best.items()) if node != me and mac not in here}
