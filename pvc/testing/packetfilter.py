"""nftables in memory: the public fake of the firewall's `PacketFilter`. Filters nothing."""

from collections.abc import Mapping, Sequence

from pvc.plugins.networking.firewall.packetfilter import Abilities, Count, Ruleset, RulesetRefused


class FakePacketFilter:
    """The table `bridge pvc` of one machine; it outlives the machine's daemon."""

    def __init__(self, abilities: Abilities | None = None) -> None:
        self.able = abilities or Abilities(state=True, reject=True)
        self.unavailable = ""
        """Why nothing can be asked or done; empty: it can."""
        self.refused: tuple[str, ...] = ()
        """Pieces of statements that the kernel does not take."""
        self.rules = Ruleset()
        """What is in force."""
        self.applied = 0
        """Times that rules were put in force."""
        self.counted: dict[str, Count] = {}
        """What `counts` answers."""
        self.switched_on: set[str] = set()
        """The switches that send bridged frames through the host's own rules."""
        self._handle = 0

    def abilities(self) -> Abilities:
        self._ask()
        return self.able

    def check(self, ruleset: Ruleset) -> None:
        self._ask()
        lines = [line for chain in ruleset.chains for line in chain.lines]
        if bad := [line for line in lines if any(piece in line for piece in self.refused)]:
            raise RulesetRefused(f"nft refuses: {bad[0]}; correct the rule")

    def apply(self, ruleset: Ruleset) -> None:
        self.check(ruleset)
        self.rules = ruleset
        self.applied += 1
        self._handle += 1

    def read(self) -> str:
        self._ask()
        return f"{self._handle} {self.rules.chains}" if self.rules.chains else ""

    def counts(self) -> Mapping[str, Count]:
        self._ask()
        return dict(self.counted)

    def intruders(self) -> tuple[str, ...]:
        return tuple(sorted(self.switched_on))

    def exclude(self, intruders: Sequence[str]) -> None:
        self.switched_on -= set(intruders)

    def tamper(self) -> None:
        """Somebody else takes the last statement out of our table."""
        *chains, last = self.rules.chains
        self.rules = Ruleset((*chains, type(last)(last.name, last.lines[:-1])))
        self._handle += 1

    def wipe(self) -> None:
        """Somebody else flushes everything, as `nft flush ruleset` does."""
        self.rules = Ruleset()

    def _ask(self) -> None:
        if self.unavailable:
            raise RulesetRefused(self.unavailable)
