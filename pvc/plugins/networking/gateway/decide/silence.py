"""The words by which nftables silences routers that nobody holds: the table `bridge pvc_gateways`, and no other."""

import re
from collections.abc import Collection

TABLE = "bridge pvc_gateways"
KINDS = ("pvg", "pvr", "pvu")
"""How a router's ports begin in the bridges of its network, of the transit, and upstream."""
_HELD = re.compile(r'"pvg-([^"]+)"')
_CHAINS = {"incoming": ("prerouting", "iifname"), "outgoing": ("postrouting", "oifname")}
"""All that comes from a port, before the bridge learns from it, and all that leaves by one."""


def definition() -> str:
    """A transaction that makes the table, or puts right what others have changed of it. Who is held stays held."""
    lines = [f"add table {TABLE}", f"add set {TABLE} held {{ type ifname; flags timeout; }}"]
    for chain, (hook, word) in _CHAINS.items():
        lines.append(f"add chain {TABLE} {chain} {{ type filter hook {hook} priority -310; policy accept; }}")
        lines.append(f"flush chain {TABLE} {chain}")
        lines += [f'add rule {TABLE} {chain} {word} "{kind}-*" {word} != @held drop' for kind in KINDS]
    return "".join(f"{line}\n" for line in lines)


def anew(text: str) -> str:
    """The same transaction, for a table that others have changed so much that it has to go first."""
    return f"add table {TABLE}\ndelete table {TABLE}\n{text}"


def holding(networks: Collection[str], seconds: float) -> str:
    """A transaction after which the ports of these routers are held for that time, and no others.

    The set is emptied and filled: an element that is added again would keep its old time.
    """
    time = f"{max(1, round(seconds * 1000))}ms"
    held = ", ".join(f'"{kind}-{network}" timeout {time}' for network in sorted(networks) for kind in KINDS)
    filled = f"add element {TABLE} held {{ {held} }}\n" if held else ""
    return f"{definition()}flush set {TABLE} held\n{filled}"


def held(listing: str) -> frozenset[str]:
    """The networks whose routers are held, from nft's listing of the set."""
    return frozenset(_HELD.findall(listing))
