"""The same tests on the packet filter in memory and on nftables, in a network namespace of the test's own."""

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.plugins.networking.firewall.decide.ruleset import ruleset
from pvc.plugins.networking.firewall.decide.typed import RuleRefused, Typed, rule_of
from pvc.plugins.networking.firewall.enforcement import Firewall
from pvc.plugins.networking.firewall.nftables import NftProgram
from pvc.plugins.networking.firewall.packetfilter import Abilities, Chain, PacketFilter, Ruleset, RulesetRefused
from pvc.plugins.networking.firewall.rules import Acl, Action, Rule, Side
from pvc.plugins.networking.firewall.wanted import MANAGED, FilteredNetwork, Port, Wanted
from pvc.testing.packetfilter import FakePacketFilter

RUN = SystemProcesses()
PORT = Port("tap1", "52:54:00:00:00:01")
RULES = ruleset(
    Wanted((FilteredNetwork("net1", "br1", (PORT,), Acl(Side(Action.DROP, (Rule(Action.ACCEPT),))), MANAGED),)),
    Abilities(),
)
OTHER = ruleset(Wanted((FilteredNetwork("net2", "br1", (PORT,), Acl(outgoing=Side(Action.DROP))),)), Abilities())
BROKEN = Ruleset((*RULES.chains, Chain("last", ("gibberish drop",))))


class Machine(Protocol):
    """A machine whose packet filter a test uses, and others change."""

    @property
    def kernel(self) -> PacketFilter: ...
    def tamper(self) -> None: ...
    def wipe(self) -> None: ...
    def close(self) -> None: ...


class InMemory:
    """The fake."""

    def __init__(self) -> None:
        self.kernel = FakePacketFilter()
        self.kernel.refused = ("gibberish",)
        self.tamper, self.wipe = self.kernel.tamper, self.kernel.wipe

    def close(self) -> None: ...


class Namespace:
    """nftables in a network namespace."""

    def __init__(self) -> None:
        self._name = f"pvc-test-{ThreadRuntime().new_id()[:8]}"
        RUN.check(["ip", "netns", "add", self._name], timeout=30)
        self.kernel = NftProgram(RUN, ("ip", "netns", "exec", self._name, "nft"))

    def nft(self, text: str) -> None:
        done = RUN.run(["ip", "netns", "exec", self._name, "nft", "-f", "-"], timeout=30, stdin=text)
        assert done.code == 0, done

    def tamper(self) -> None:
        generation = 1 if "in-net1.1" in self.kernel.read() else 2
        self.nft(f"insert rule bridge pvc in-net1.{generation} accept")

    def wipe(self) -> None:
        self.nft("flush ruleset")

    def close(self) -> None:
        RUN.check(["ip", "netns", "del", self._name], timeout=30)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.lab)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    made: Machine = InMemory() if request.param == "fake" else Namespace()
    yield made
    made.close()


def test_a_table_reads_the_same_until_somebody_changes_it(machine: Machine) -> None:
    kernel = machine.kernel
    assert kernel.read() == ""
    kernel.apply(RULES)
    left = kernel.read()
    assert left and kernel.read() == left
    machine.tamper()
    assert kernel.read() != left
    kernel.apply(RULES)
    left = kernel.read()
    machine.wipe()
    assert kernel.read() == "" != left


def test_a_ruleset_takes_the_place_of_another_and_none_takes_the_table_away(machine: Machine) -> None:
    machine.kernel.apply(RULES)
    first = machine.kernel.read()
    machine.kernel.apply(OTHER)
    second = machine.kernel.read()
    assert "net1" in first and "net1" not in second and "net2" in second
    machine.kernel.apply(Ruleset())
    assert machine.kernel.read() == ""
    machine.kernel.apply(Ruleset())
    assert machine.kernel.read() == ""


def test_what_is_refused_changes_nothing_and_neither_does_a_check(machine: Machine) -> None:
    machine.kernel.check(RULES)
    assert machine.kernel.read() == ""
    machine.kernel.apply(OTHER)
    before = machine.kernel.read()
    machine.kernel.check(RULES)
    for attempt in (machine.kernel.check, machine.kernel.apply):
        with pytest.raises(RulesetRefused, match="gibberish"):
            attempt(BROKEN)
    assert machine.kernel.read() == before


def test_a_firewall_mends_what_others_have_changed(machine: Machine) -> None:
    wanted = Wanted((FilteredNetwork("net1", "br1", (PORT,), Acl(Side(Action.DROP))),))
    firewall = Firewall(machine.kernel)
    firewall.settle(wanted)
    left = machine.kernel.read()
    for meddle in (machine.tamper, machine.wipe):
        meddle()
        assert any("somebody else had changed" in each.text for each in firewall.settle(wanted))
        assert machine.kernel.read() != "" and machine.kernel.counts().keys() <= {"net1 in 0"}
        assert not any("somebody else" in each.text for each in firewall.settle(wanted))
    assert left.count("net1") == machine.kernel.read().count("net1")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.close()


@pytest.mark.lab
@pytest.mark.parametrize(
    "meddling",
    [
        "add table bridge pvc { flags dormant; }",
        "add set bridge pvc strange { type ipv4_addr; }; add rule bridge pvc in-net1.1 ip saddr @strange accept",
        "add chain bridge pvc strange { type filter hook forward priority 5; policy drop; }",
        "add counter bridge pvc strange",
        "chain bridge pvc to-guests { type filter hook postrouting priority 0; policy drop; }",
        "flush chain bridge pvc to-guests; delete chain bridge pvc to-guests;"
        "add chain bridge pvc to-guests { type filter hook input priority 7; }",
    ],
)
def test_whatever_others_have_made_of_our_table_it_can_be_filled_anew(namespace: Namespace, meddling: str) -> None:
    namespace.wipe()
    firewall, wanted = (
        Firewall(namespace.kernel),
        Wanted((FilteredNetwork("net1", "b", (PORT,), Acl(Side(Action.DROP))),)),
    )
    firewall.settle(wanted)

    def listed() -> str:
        words = ["ip", "netns", "exec", namespace._name, "nft", "-s", "list", "ruleset"]
        return re.sub(r"\.[12]\b", "", RUN.check(words, timeout=30))

    before = listed()
    namespace.nft(meddling)
    assert listed() != before
    firewall.settle(wanted)
    assert sorted(listed().splitlines()) == sorted(before.splitlines())


@pytest.mark.lab
def test_a_machine_without_nft_says_what_to_install() -> None:
    with pytest.raises(RulesetRefused, match="package nftables"):
        NftProgram(RUN, ("no-such-program-as-nft",)).read()


@pytest.mark.lab
def test_the_words_for_what_this_kernel_may_lack_are_words_that_nft_knows(namespace: Namespace) -> None:
    reject = Rule(Action.REJECT)
    network = FilteredNetwork("net1", "br1", (PORT,), Acl(outgoing=Side(Action.DROP, (Rule(Action.ACCEPT), reject))))
    for abilities in (Abilities(state=True), Abilities(reject=True)):
        try:
            namespace.kernel.check(ruleset(Wanted((network,)), abilities))
        except RulesetRefused as refused:
            assert "syntax" not in str(refused), "the kernel may refuse it, nft must understand it"


ENTRIES = st.lists(
    st.one_of(
        st.ip_addresses().map(str),
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda pair: str(ip_network(pair, strict=False))),
        st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda pair: str(ip_network(pair, strict=False))),
        st.sampled_from(["10.0.0.0/8", "10.0.0.0/9", "0.0.0.0/0", "::/0", "10.1.2.3", "fd00::/8", "fd00::1", "@some"]),
    ),
    max_size=4,
).map(",".join)
PORTS = st.lists(
    st.tuples(st.integers(1, 65535), st.integers(0, 40)).map(lambda pair: f"{pair[0]}-{min(pair[0] + pair[1], 65535)}"),
    max_size=4,
).map(",".join)
TYPED = st.builds(
    Typed,
    direction=st.sampled_from(["in", "out"]),
    action=st.sampled_from(["accept", "drop", "reject"]),
    protocol=st.sampled_from(["", "any", "tcp", "udp", "sctp", "icmp", "icmpv6"]),
    source=ENTRIES,
    destination=ENTRIES,
    source_ports=PORTS,
    ports=PORTS,
    comment=st.text(max_size=20),
)


@pytest.mark.lab
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TYPED, min_size=20, max_size=40))
def test_whatever_is_taken_for_a_rule_is_taken_by_nft(namespace: Namespace, typed: list[Typed]) -> None:
    sets = {"some": ("10.0.0.0/8", "10.1.0.0/16", "fd00::/16", "fd00::1")}
    sides: dict[str, list[Rule]] = {"in": [], "out": []}
    for each in typed:
        try:
            sides[each.direction].append(rule_of(each, sets))
        except RuleRefused:
            continue
    acl = Acl(Side(Action.DROP, tuple(sides["in"])), Side(Action.DROP, tuple(sides["out"])), sets)
    namespace.kernel.check(ruleset(Wanted((FilteredNetwork("net1", "br1", (PORT,), acl, MANAGED, True),)), Abilities()))
