"""Keeps the kernel's rules as they are wanted. Decides nothing about rules and knows nothing of the tree."""

import logging
from dataclasses import replace

from pvc.core.model import Finding, Severity
from pvc.plugins.networking.firewall.decide.ruleset import ALWAYS, Unrenderable, chains_of, keeps_out, rejects, ruleset
from pvc.plugins.networking.firewall.packetfilter import Abilities, PacketFilter, Ruleset, RulesetRefused
from pvc.plugins.networking.firewall.rules import Acl, Action, Side
from pvc.plugins.networking.firewall.wanted import FilteredNetwork, Wanted

SOURCE = "networking"
CLOSED = Acl(Side(Action.DROP), Side(Action.DROP))


class Firewall:
    """The firewall of one node; for one thread."""

    def __init__(self, kernel: PacketFilter, log: logging.Logger | None = None) -> None:
        self._kernel = kernel
        self._log = log or logging.getLogger("pvc")
        self._wanted: Wanted | None = None
        """What was put in force; None: nothing by this process, or it is not known any more."""
        self._left = ""
        """How the table was read afterwards."""
        self._findings: tuple[Finding, ...] = ()
        self._good: dict[str, Acl] = {}
        """The last rules of each network's own that were put in force."""
        self._objected: frozenset[str] = frozenset()
        """The networks for which others are in force instead."""
        self._missed: Abilities | None = None
        """What the kernel could do when the rules asked for more; None: it could do what they asked for."""

    def settle(self, wanted: Wanted) -> list[Finding]:
        """Put in force what is wanted and mend what others have changed; what an administrator should know of it.

        To be called again and again: if nothing has changed it reads the table once. What cannot be done is a finding,
        the rules before stay in force, and the next call tries again.
        """
        try:
            there = self._kernel.read()
            if wanted == self._wanted and there == self._left and not self._can_do_better(wanted):
                return list(self._findings)
            tampered = self._wanted is not None and there != self._left
            findings = self._put_in_force(wanted, bool(there))
            self._left = self._kernel.read()
        except (RulesetRefused, Unrenderable) as error:
            self._wanted = None
            return [_critical(f"the firewall was left as it was: {error}")]
        self._wanted, self._findings = wanted, tuple(findings)
        return [*findings, *([self._tampered()] if tampered else [])]

    @property
    def in_force(self) -> bool:
        """Whether the last call could do what was wanted, but for what its findings say of single networks."""
        return self._wanted is not None

    def _can_do_better(self, wanted: Wanted) -> bool:
        """Whether the kernel takes by now what it did not take when this was put in force."""
        if not self._objected and self._missed is None:
            return False
        abilities = self._kernel.abilities()
        if self._missed is not None and _gains(self._missed, abilities):
            return True
        objected = [network for network in wanted.networks if network.name in self._objected]
        return any(not self._objection(network, abilities, ask=True) for network in objected)

    def _tampered(self) -> Finding:
        text = "somebody else had changed the table `bridge pvc` of nftables; it is as wanted again: find out who did"
        self._log.warning("firewall: %s", text)
        return Finding(SOURCE, Severity.WARNING, text)

    def _put_in_force(self, wanted: Wanted, there: bool) -> list[Finding]:
        abilities = self._kernel.abilities() if wanted.networks else Abilities()
        networks, objections = self._sound(wanted.networks, abilities, ask=False)
        rules = ruleset(replace(wanted, networks=networks), abilities)
        if rules.chains or there:
            try:
                self._kernel.apply(rules)
            except RulesetRefused:
                networks, objections = self._sound(wanted.networks, abilities, ask=True)
                if not objections:
                    raise
                self._kernel.apply(ruleset(replace(wanted, networks=networks), abilities))
        own = {network.name: network.acl for network in networks if network.name not in objections}
        before = {name: acl for name, acl in self._good.items() if name in objections}
        self._good, self._objected = {**before, **own}, frozenset(objections)
        shortcomings = _shortcomings(networks, abilities)
        self._missed = abilities if shortcomings else None
        return [*objections.values(), *shortcomings]

    def _sound(
        self, networks: tuple[FilteredNetwork, ...], abilities: Abilities, *, ask: bool
    ) -> tuple[tuple[FilteredNetwork, ...], dict[str, Finding]]:
        """The networks, with other rules where their own cannot be put in force: one must not hold up the others.

        And what to say of those, by name.
        """
        sound, objections = [], {}
        for network in networks:
            if why := self._objection(network, abilities, ask=ask):
                known = network.name in self._good
                network = replace(network, acl=self._good.get(network.name, CLOSED))
                instead = "the rules before stay in force" if known else "nothing passes to and from its VMs"
                objections[network.name] = _critical(
                    f"the rules of network {network.name} cannot be put in force, {instead}: {why}"
                )
            sound.append(network)
        return tuple(sound), objections

    def _objection(self, network: FilteredNetwork, abilities: Abilities, *, ask: bool) -> str:
        """Why a network's rules cannot be put in force; empty: they can. `ask`: the kernel too."""
        try:
            chains = chains_of(network, abilities)
            if ask and chains:
                self._kernel.check(Ruleset((ALWAYS, *chains)))
        except (Unrenderable, RulesetRefused) as error:
            return str(error)
        return ""


def _gains(before: Abilities, now: Abilities) -> bool:
    """Whether a kernel can do anything that it could not."""
    return (now.state and not before.state) or (now.reject and not before.reject)


def _shortcomings(networks: tuple[FilteredNetwork, ...], abilities: Abilities) -> list[Finding]:
    """What the kernel cannot do of what the rules ask for."""
    found = []
    stateful = [network.name for network in networks if keeps_out(network.acl)]
    if stateful and not abilities.state:
        found.append(
            f"this kernel tracks no connections in bridges: in networks {', '.join(stateful)} answers other than TCP's"
            " need rules of their own; load nf_conntrack_bridge if the kernel has it"
        )
    rejecting = [network.name for network in networks if rejects(network.acl)]
    if rejecting and not abilities.reject:
        found.append(
            f"this kernel cannot reject in bridges: in networks {', '.join(rejecting)} it drops instead;"
            " load nft_reject_bridge if the kernel has it"
        )
    return [Finding(SOURCE, Severity.WARNING, text) for text in found]


def _critical(text: str) -> Finding:
    return Finding(SOURCE, Severity.CRITICAL, text)
