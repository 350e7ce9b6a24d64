"""The words by which dnsmasq is told what a router does: pure texts. All addresses are those of `Services`."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from pathlib import Path

from pvc.plugins.networking.gateway.routers import Host, Router, Services

LAN = "lan"
"""The device of the network itself, inside the router's namespace."""
SLAAC_PREFIX = 64
"""Length of the only prefix below which hosts make addresses of their own (RFC 4862 over Ethernet, RFC 2464)."""
ENTERPRISE = 32473
"""Private enterprise number for examples (RFC 5612): the server's DUID needs one, and nobody else may have it."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*")


def configuration(router: Router, directory: Path) -> str:
    """The configuration file. It names files in `directory` that are read anew at SIGHUP: hosts, names, servers."""
    return "".join(f"{line}\n" for line in _lines(router, directory))


def hosts(services: Services) -> str:
    """The file of what DHCP gives to whom."""
    return "".join(f"{line}\n" for line in sorted(_host(host) for host in services.hosts if host.ipv4 or host.ipv6))


def names(services: Services) -> str:
    """The file of what DNS knows: the network's own hosts, and whatever else there is in the cluster."""
    known: dict[str, set[str]] = {}
    for host in services.hosts:
        if host.name:
            own = {each for each in (host.ipv4, host.ipv6) if each}
            known.setdefault(f"{host.name}.{services.domain}".lower(), set()).update(own)
    others: Mapping[str, tuple[str, ...]] = services.names or {}
    for name, addresses in others.items():
        known.setdefault(name.lower().rstrip("."), set()).update(addresses)
    lines = sorted(f"{each} {name}" for name, found in known.items() if _NAME.fullmatch(name) for each in found)
    return "".join(f"{line}\n" for line in lines)


def servers(services: Services) -> str:
    """The file of who is asked for what this router does not know: nobody for what is in the cluster's domains."""
    own = {services.domain, *(name.partition(".")[2] for name in services.names or ())}
    lines = [f"server=/{each.lower().rstrip('.')}/" for each in sorted(own) if _NAME.fullmatch(each.rstrip("."))]
    # Without anybody to ask, what is not known does not exist: a refusal makes some programs ask again and again.
    lines += [f"server={each}" for each in services.forwarders] or ["server=/#/"]
    return "".join(f"{line}\n" for line in lines)


def forgets(before: str, after: str) -> bool:
    """Whether a host of the old `hosts` is gone or has other addresses: dnsmasq would go on with its lease."""
    return not set(before.splitlines()) <= set(after.splitlines())


def _lines(router: Router, directory: Path) -> Iterator[str]:
    services = router.services
    yield from (f"interface={LAN}", "except-interface=lo", "bind-interfaces")
    yield from ("no-resolv", "no-hosts", "no-poll", "no-ping", "domain-needed", "bogus-priv")
    yield from ("quiet-dhcp", "quiet-dhcp6", "quiet-ra")
    yield from (f"pid-file={directory}/dnsmasq.pid", f"addn-hosts={directory}/names")
    yield from (f"domain={services.domain}", f"servers-file={directory}/servers")
    own = [ip_interface(each) for each in router.lan.addresses]
    four = next((each for each in own if isinstance(each, IPv4Interface)), None)
    six = next((each for each in own if isinstance(each, IPv6Interface) and not each.is_link_local), None)
    dhcp4, dhcp6 = services.dhcp4 and four is not None, services.dhcp6 and six is not None
    if dhcp4 or dhcp6:
        # No file of leases: each host has its address for good, so there is nothing in it that could be lost.
        yield from ("dhcp-authoritative", "leasefile-ro", f"dhcp-hostsfile={directory}/hosts")
    if dhcp4 and four is not None:
        yield from _dhcp4(router, four)
    if dhcp6 and six is not None:
        yield from _dhcp6(router, six)


def _dhcp4(router: Router, own: IPv4Interface) -> Iterator[str]:
    yield f"dhcp-range={own.network.network_address},static,{own.netmask},{router.services.lease}"
    yield f"dhcp-option=option:router,{own.ip}"
    yield f"dhcp-option=option:dns-server,{own.ip}"
    yield f"dhcp-option-force=option:mtu,{router.lan.mtu}"  # many clients do not ask for it, and would send too much


def _dhcp6(router: Router, own: IPv6Interface) -> Iterator[str]:
    length = own.network.prefixlen
    ways = "static,slaac" if length == SLAAC_PREFIX else "static"
    yield "enable-ra"
    yield f"dhcp-range={own.network.network_address},{ways},{length},{router.services.lease}"
    yield f"dhcp-option=option6:dns-server,[{own.ip}]"
    yield f"dhcp-option=option6:domain-search,{router.services.domain}"
    # Of the leg, so that whichever node the router is on, clients know the server that they have their address from.
    yield f"dhcp-duid={ENTERPRISE},{router.lan.mac}"


def _host(host: Host) -> str:
    words = [host.mac.lower(), host.ipv4, f"[{host.ipv6}]" if host.ipv6 else None]
    name = host.name if host.name and "." not in host.name and _NAME.fullmatch(host.name) else None
    return ",".join(each for each in (*words, name) if each)
