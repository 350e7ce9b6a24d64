"""The rules of nftables inside a router's own namespace, as text. Filters nothing: that is the firewall's."""

from ipaddress import IPv4Interface, ip_interface

from pvc.plugins.networking.gateway.routers import Leg, Router

TABLE = "inet pvc"
ARRIVING = """\
\tchain arriving {
\t\ttype filter hook input priority 0; policy accept;
\t\tiifname "upstream" tcp flags & (fin | syn | rst | ack) != syn ct state { new, invalid } drop
\t}
"""
"""A segment of a connection that was translated on another node: answered by the router itself, it would be reset. The
connection goes on with the next segment of the VM, which the kernel takes up in the middle."""


def translation(router: Router) -> str:
    """A transaction that replaces the table: NAT to the upstream leg's addresses, and TCP segments that fit."""
    body = [*_nat(router.upstream if router.nat else None), *_clamp(router)]
    cleared = f"add table {TABLE}\ndelete table {TABLE}\n"
    return cleared + (f"table {TABLE} {{\n{''.join(body)}}}\n" if body else "")


def _nat(upstream: Leg | None) -> list[str]:
    """Addresses by name rather than `masquerade`: that would end every connection when the leg goes down once."""
    rules: dict[int, str] = {}
    for own in (ip_interface(each) for each in (upstream.addresses if upstream else ())):
        family = "ip" if isinstance(own, IPv4Interface) else "ip6"
        if not own.is_link_local:
            rules.setdefault(
                own.version, f'\t\toifname "upstream" {family} saddr != {own.ip} snat {family} to {own.ip}\n'
            )
    if not rules:
        return []
    hook = "\t\ttype nat hook postrouting priority 100; policy accept;\n"
    return [f"\tchain leaving {{\n{hook}{''.join(rules.values())}\t}}\n", ARRIVING]


def _clamp(router: Router) -> list[str]:
    if len({leg.mtu for leg in (router.lan, router.transit, router.upstream) if leg}) < 2:
        return []
    rule = "\t\ttcp flags syn tcp option maxseg size set rt mtu\n"
    return [f"\tchain passing {{\n\t\ttype filter hook forward priority -150; policy accept;\n{rule}\t}}\n"]
