"""Makes a network's gateway what an administrator has typed."""

from dataclasses import dataclass, replace
from typing import Any

from pvc.core.errors import PvcError
from pvc.plugins.networking.records import Network, NetworkKind, Upstream


class GatewayRefused(PvcError):
    """What was typed makes no sense for the network; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed of a gateway; None and empty: not said."""

    dhcp: bool | None = None
    dhcp_range: str | None = None
    """FIRST-LAST."""
    domain: str | None = None
    dns: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_ipv4: str | None = None
    upstream_ipv4_gateway: str | None = None
    upstream_ipv6: str | None = None
    upstream_ipv6_gateway: str | None = None
    nat: bool | None = None
    dropped: frozenset[str] = frozenset()
    """Of dhcp_range, domain, dns and upstream, what the network shall not have any more."""

    def contradictions(self) -> list[str]:
        """What was typed together with its opposite."""
        said = {"dhcp_range": self.dhcp_range, "domain": self.domain, "dns": self.dns, "upstream": self._upstream()}
        return sorted(field for field in self.dropped if said[field])

    def nothing(self) -> bool:
        """Whether nothing was said at all."""
        return self == Typed()

    def of(self, network: Network) -> Network:
        """The network with what was typed. Raises GatewayRefused."""
        if network.kind is NetworkKind.BRIDGED and self.dhcp is not None:
            raise GatewayRefused(f"network {network.name} is bridged: what it is bridged to looks after addresses")
        changes: dict[str, Any] = {}
        if self.dhcp is not None:
            changes["dhcp"] = self.dhcp
        if self.dhcp_range is not None:
            changes["dhcp_range"] = _range(self.dhcp_range)
        if self.domain is not None:
            changes["domain"] = self.domain.lower().rstrip(".")
        if self.dns:
            changes["dns"] = tuple(dict.fromkeys(self.dns))
        if self._upstream():
            changes["upstream"] = self._changed(network)
        changes |= {field: () if field == "dns" else None for field in self.dropped}
        return replace(network, **changes)

    def _upstream(self) -> dict[str, Any]:
        fields = {
            "network": self.upstream,
            "ipv4": self.upstream_ipv4,
            "ipv4_gateway": self.upstream_ipv4_gateway,
            "ipv6": self.upstream_ipv6,
            "ipv6_gateway": self.upstream_ipv6_gateway,
            "nat": self.nat,
        }
        return {field: value for field, value in fields.items() if value is not None}

    def _changed(self, network: Network) -> Upstream:
        """With the name of the network everything is new; without it the rest stays."""
        if self.upstream is not None:
            return Upstream(**self._upstream())
        if network.upstream is None:
            raise GatewayRefused(f"network {network.name} has no upstream: say with --upstream which network it is")
        return replace(network.upstream, **self._upstream())


def _range(text: str) -> tuple[str, str]:
    first, separator, last = (part.strip() for part in text.partition("-"))
    if not (first and separator and last):
        raise GatewayRefused(f"{text!r} is no range of addresses: write it as 192.0.2.100-192.0.2.199")
    return first, last
