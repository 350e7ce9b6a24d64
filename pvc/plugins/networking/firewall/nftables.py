"""The door to nftables: the program `nft`. Names no table but `bridge pvc`; docs/decisions/0019 says why a program."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pvc.core.process import CommandFailed, Finished, Processes
from pvc.plugins.networking.firewall.decide import transaction
from pvc.plugins.networking.firewall.packetfilter import Abilities, Count, Ruleset, RulesetRefused

PATIENCE = 30.0
"""Seconds that one call may take: thousands of rules take less than one."""
ABSENT = "No such file or directory"
"""What nft says of a table that is not there."""
SWITCHES = Path("/proc/sys/net/bridge")
"""Of the kernel's module br_netfilter; where it is not loaded, bridged frames pass no rules but those of bridges."""
CALLS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
PROBE = "table bridge pvc-probe {{ chain c {{ type filter hook prerouting priority 0; {}; }}; }}\n"


class NftProgram:
    """The real `PacketFilter`: of the network namespace that this process, or `command`, is in."""

    def __init__(self, processes: Processes, command: Sequence[str] = ("nft",)) -> None:
        """`command` runs nft, in a network namespace for instance."""
        self._processes = processes
        self._command = tuple(command)

    def abilities(self) -> Abilities:
        able = [self._nft("-c", "-f", "-", stdin=PROBE.format(words)).code == 0 for words in ("ct state new", "reject")]
        return Abilities(*able)

    def check(self, ruleset: Ruleset) -> None:
        self._demand(self._nft("-c", "-f", "-", stdin=transaction.rebuilding(ruleset)))

    def apply(self, ruleset: Ruleset) -> None:
        there = transaction.contents(self._listing() or "{}")
        generation = transaction.next_generation(there)
        if ruleset.chains:
            self._demand(self._nft("-f", "-", stdin=transaction.preparation(ruleset, generation)))
            if self._nft("-f", "-", stdin=transaction.switch(ruleset, generation, there)).code == 0:
                return
        self._demand(self._nft("-f", "-", stdin=transaction.rebuilding(ruleset)))

    def read(self) -> str:
        return self._listing("-s")

    def counts(self) -> Mapping[str, Count]:
        return transaction.counts(self._listing() or "{}")

    def intruders(self) -> tuple[str, ...]:
        try:
            return tuple(name for name in CALLS if _is_on(SWITCHES / name))
        except OSError as error:
            raise RulesetRefused(f"{SWITCHES} cannot be read: {error}; pvcd needs root") from error

    def exclude(self, intruders: Sequence[str]) -> None:
        try:
            for name in intruders:
                (SWITCHES / name).write_text("0\n")
        except OSError as error:
            raise RulesetRefused(f"{SWITCHES} cannot be written: {error}; pvcd needs root") from error

    def _listing(self, *options: str) -> str:
        """The table as nft's JSON; empty if there is none. With handles, so that a rule that was replaced shows."""
        done = self._nft("-j", *options, "list", "table", *transaction.TABLE.split())
        if done.code != 0 and ABSENT in done.stderr:
            return ""
        return self._demand(done)

    def _demand(self, done: Finished) -> str:
        if done.code != 0:
            said = " ".join((done.stderr.strip() or done.stdout.strip()).splitlines()[:2])[:500]
            raise RulesetRefused(f"nft refuses: {said}; pvcd needs root and a kernel with nftables for bridges")
        return done.stdout

    def _nft(self, *words: str, stdin: str | None = None) -> Finished:
        try:
            # Messages are read by this program: they must not be in the language of whoever started it.
            return self._processes.run([*self._command, *words], timeout=PATIENCE, env={"LC_ALL": "C"}, stdin=stdin)
        except CommandFailed as error:
            raise RulesetRefused(f"{error} (the package nftables has it)") from error


def _is_on(switch: Path) -> bool:
    return switch.exists() and switch.read_text().strip() != "0"
