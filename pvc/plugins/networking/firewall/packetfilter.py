"""What the firewall needs of the node's kernel. `pvc.testing.packetfilter` has a fake."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pvc.core.errors import PvcError


class RulesetRefused(PvcError):
    """The kernel, or nft before it, does not take a ruleset, or cannot be asked. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a kernel can do for packets in a bridge, beyond looking at each."""

    state: bool = False
    """Tell the answers to what was let through (nf_conntrack_bridge)."""
    reject: bool = False
    """Tell the sender (nft_reject_bridge)."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of nftables."""

    name: str
    lines: tuple[str, ...]
    """As in nft's own language, one statement each."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All chains of our table; none: there is to be no table."""

    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """What a rule was used for since it was put in force; a change of any rule begins anew."""

    packets: int
    bytes: int


class PacketFilter(Protocol):
    """The table `bridge pvc` of one machine, and no other; and whether other tables see what it has let through."""

    def abilities(self) -> Abilities:
        """What the kernel can do. Raises RulesetRefused if it cannot be asked."""

    def check(self, ruleset: Ruleset) -> None:
        """Change nothing; raise RulesetRefused for what `apply` would refuse."""

    def apply(self, ruleset: Ruleset) -> None:
        """Replace the whole table: each packet meets the rules before or those after. Raises RulesetRefused."""

    def read(self) -> str:
        """The table as it is, in whatever words: equal texts mean that nobody has changed it. Empty: there is none.

        Counters do not count as changes. Raises RulesetRefused if it cannot be asked.
        """

    def counts(self) -> Mapping[str, Count]:
        """What each rule was used for, by `<network> <direction> <number>`. Raises RulesetRefused."""

    def intruders(self) -> tuple[str, ...]:
        """The switches that send bridged frames through the host's own rules for routed packets as well, of those
        that are on (`bridge-nf-call-iptables` and its like). Raises RulesetRefused."""

    def exclude(self, intruders: Sequence[str]) -> None:
        """Turn these switches off, for all bridges of the machine. Raises RulesetRefused."""
