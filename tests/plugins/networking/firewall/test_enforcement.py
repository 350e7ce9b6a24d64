"""What is wanted is put in force once, kept in force, and one broken network does not hold up the others."""

import logging
from dataclasses import replace

import pytest

from pvc.core.model import Severity
from pvc.plugins.networking.firewall.enforcement import Firewall
from pvc.plugins.networking.firewall.packetfilter import Abilities, Ruleset, RulesetRefused
from pvc.plugins.networking.firewall.rules import Acl, Action, Protocol, Rule, Side
from pvc.plugins.networking.firewall.wanted import FilteredNetwork, Port, Wanted
from pvc.testing.packetfilter import FakePacketFilter

A = FilteredNetwork("a", "br1", (Port("tap1", "52:54:00:00:00:01"),), Acl(Side(Action.DROP)))
B = FilteredNetwork("b", "br2", (Port("tap2", "52:54:00:00:00:02"),), Acl(outgoing=Side(Action.DROP)))
BOTH = Wanted((A, B))


def lines(kernel: FakePacketFilter, chain: str) -> str:
    return "\n".join(line for each in kernel.rules.chains if each.name == chain for line in each.lines)


def test_rules_are_put_in_force_once_and_again_when_something_else_is_wanted() -> None:
    kernel = FakePacketFilter()
    firewall = Firewall(kernel)
    assert [firewall.settle(BOTH) for _ in range(3)] == [[], [], []]
    assert kernel.applied == 1
    firewall.settle(Wanted((A,)))
    assert kernel.applied == 2 and not lines(kernel, "out-b")
    firewall.settle(Wanted())
    assert (kernel.applied, kernel.rules) == (3, Ruleset())
    firewall.settle(Wanted())
    assert kernel.applied == 3


def test_where_nothing_is_wanted_and_nothing_is_there_nothing_is_done() -> None:
    kernel = FakePacketFilter()
    assert Firewall(kernel).settle(Wanted((replace(A, acl=Acl()),))) == []
    assert kernel.applied == 0


def test_what_an_earlier_daemon_has_left_is_replaced_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    kernel = FakePacketFilter()
    Firewall(kernel).settle(BOTH)
    assert Firewall(kernel).settle(Wanted()) == []
    assert kernel.rules == Ruleset() and caplog.text == ""


def test_what_others_have_changed_is_mended_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    kernel = FakePacketFilter()
    firewall = Firewall(kernel, logging.getLogger("test"))
    firewall.settle(BOTH)
    wanted = kernel.rules
    for meddle in (kernel.tamper, kernel.wipe):
        caplog.clear()
        meddle()
        (finding,) = firewall.settle(BOTH)
        assert finding.severity is Severity.WARNING and "somebody else" in finding.text
        assert kernel.rules == wanted and "somebody else" in caplog.text
        assert firewall.settle(BOTH) == []


def test_a_kernel_that_cannot_be_asked_is_a_finding_until_it_can() -> None:
    kernel = FakePacketFilter()
    kernel.unavailable = "nft is not installed; install nftables"
    firewall = Firewall(kernel)
    (finding,) = firewall.settle(BOTH)
    assert finding.severity is Severity.CRITICAL and "install nftables" in finding.text
    kernel.unavailable = ""
    assert firewall.settle(BOTH) == [] and kernel.applied == 1


def test_rules_that_are_refused_keep_those_before_and_the_other_networks_get_theirs() -> None:
    kernel = FakePacketFilter()
    kernel.refused = ("l4proto sctp",)
    firewall = Firewall(kernel)
    firewall.settle(BOTH)
    before = lines(kernel, "in-a")
    refused = replace(A, acl=Acl(Side(Action.DROP, (Rule(Action.ACCEPT, Protocol.SCTP),))))
    stricter = replace(B, acl=Acl(outgoing=Side(Action.DROP, (Rule(Action.DROP, Protocol.UDP),))))
    (finding,) = firewall.settle(Wanted((refused, stricter)))
    assert finding.severity is Severity.CRITICAL
    assert "network a cannot" in finding.text and "before stay in force" in finding.text
    assert lines(kernel, "in-a") == before
    assert "l4proto udp" in lines(kernel, "out-b")
    assert firewall.settle(Wanted((refused, stricter))) == [finding], "it is told as long as it is so"
    assert kernel.applied == 2


def test_rules_that_cannot_be_read_close_a_network_that_had_none_before() -> None:
    kernel = FakePacketFilter()
    strange = replace(A, acl=Acl(Side(rules=(Rule(Action.DROP, source=("nowhere",)),))))
    (finding,) = Firewall(kernel).settle(Wanted((strange, B)))
    assert "nothing passes to and from its VMs" in finding.text and "'nowhere'" in finding.text
    assert 'counter drop comment "a in 0"' in lines(kernel, "in-a")
    assert 'counter drop comment "a out 0"' in lines(kernel, "out-a")
    assert lines(kernel, "out-b")


class Hiccup(FakePacketFilter):
    """A kernel that refuses the next things it is asked for, whatever they are, and then is as others."""

    refusals = 0

    def check(self, ruleset: Ruleset) -> None:
        if self.refusals > 0:
            self.refusals -= 1
            raise RulesetRefused("nft refuses: Resource temporarily unavailable")
        super().check(ruleset)


def test_rules_that_were_refused_once_are_put_in_force_with_the_next_look() -> None:
    kernel = Hiccup()
    kernel.refusals = 2  # all rules together, and those of a
    firewall = Firewall(kernel)
    (finding,) = firewall.settle(BOTH)
    assert "network a cannot" in finding.text and 'counter drop comment "a out 0"' in lines(kernel, "out-a")
    assert firewall.settle(BOTH) == []
    assert 'counter drop comment "a in 0"' in lines(kernel, "in-a") and not lines(kernel, "out-a")
    firewall.settle(BOTH)
    assert kernel.applied == 2


def test_a_network_that_was_closed_is_not_said_to_have_the_rules_before() -> None:
    kernel = FakePacketFilter()
    kernel.refused = ("l4proto sctp",)
    firewall = Firewall(kernel)
    refused = replace(A, acl=Acl(Side(Action.DROP, (Rule(Action.ACCEPT, Protocol.SCTP),))))
    for other in (B, replace(B, acl=Acl())):
        (finding,) = firewall.settle(Wanted((refused, other)))
        assert "nothing passes to and from its VMs" in finding.text
    assert kernel.applied == 2


def test_a_port_in_two_networks_leaves_all_as_it_was() -> None:
    kernel = FakePacketFilter()
    firewall = Firewall(kernel)
    firewall.settle(BOTH)
    before = kernel.rules
    (finding,) = firewall.settle(Wanted((A, replace(B, ports=A.ports))))
    assert finding.severity is Severity.CRITICAL and "tap1 is named twice" in finding.text
    assert kernel.rules == before


def test_what_the_kernel_lacks_is_told_where_it_matters() -> None:
    kernel = FakePacketFilter(Abilities())
    rejecting = replace(B, acl=Acl(outgoing=Side(rules=(Rule(Action.REJECT),))))
    found = Firewall(kernel).settle(Wanted((A, rejecting)))
    assert [each.severity for each in found] == [Severity.WARNING, Severity.WARNING]
    assert "networks a, b answers" in found[0].text and "networks b it drops" in found[1].text
    assert Firewall(kernel).settle(Wanted((replace(A, acl=Acl()),))) == []


@pytest.mark.parametrize(
    ("before", "statement"), [(Abilities(reject=True), "ct state"), (Abilities(state=True), "counter reject")]
)
def test_what_the_kernel_has_learned_since_it_was_told_is_used_with_the_next_look(
    before: Abilities, statement: str
) -> None:
    kernel = FakePacketFilter(before)
    firewall = Firewall(kernel)
    wanted = Wanted((replace(A, acl=Acl(outgoing=Side(Action.DROP, (Rule(Action.REJECT),)))),))
    assert len(firewall.settle(wanted)) == 1 and statement not in lines(kernel, "out-a")
    kernel.able = Abilities()
    assert len(firewall.settle(wanted)) == 1 and kernel.applied == 1, "nothing is taken away for what it cannot now"
    kernel.able = Abilities(state=True, reject=True)
    assert firewall.settle(wanted) == [] and statement in lines(kernel, "out-a")
    firewall.settle(wanted)
    assert kernel.applied == 2
