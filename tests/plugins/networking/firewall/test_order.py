"""Rules come, go and change places by number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.plugins.networking.firewall.decide.order import (
    MOST_RULES,
    NoSuchRule,
    SetInUse,
    TooManyRules,
    with_default,
    with_moved,
    with_rule,
    with_set,
    without_rule,
    without_set,
)
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, Rule, Side

IN, OUT = Direction.IN, Direction.OUT


def rules(*comments: str) -> Acl:
    return Acl(Side(rules=tuple(Rule(Action.DROP, comment=each) for each in comments)))


def order(acl: Acl) -> str:
    return "".join(rule.comment for rule in acl.incoming.rules)


@pytest.mark.parametrize(
    ("at", "expected", "number"), [(None, "abcx", 4), (1, "xabc", 1), (3, "abxc", 3), (4, "abcx", 4)]
)
def test_a_rule_comes_last_or_at_its_place(at: int | None, expected: str, number: int) -> None:
    acl, got = with_rule(rules("a", "b", "c"), IN, Rule(Action.DROP, comment="x"), at)
    assert (order(acl), got, acl.outgoing) == (expected, number, Side())


@pytest.mark.parametrize(("number", "to", "expected"), [(1, 3, "bca"), (3, 1, "cab"), (2, 2, "abc"), (1, 2, "bac")])
def test_a_moved_rule_has_the_number_that_was_asked_for(number: int, to: int, expected: str) -> None:
    assert order(with_moved(rules("a", "b", "c"), IN, number, to)) == expected


@given(st.integers(1, 6), st.integers(1, 6))
def test_moving_there_and_back_changes_nothing(number: int, to: int) -> None:
    acl = rules(*"abcdef")
    there = with_moved(acl, IN, number, to)
    assert there.incoming.rules[to - 1] == acl.incoming.rules[number - 1]
    assert with_moved(there, IN, to, number) == acl


def test_a_removed_rule_is_told() -> None:
    acl, rule = without_rule(rules("a", "b", "c"), IN, 2)
    assert (order(acl), rule.comment) == ("ac", "b")


def test_numbers_that_there_are_not_are_refused_with_those_that_there_are() -> None:
    acl = rules("a", "b", "c")
    for number in (0, -1, 4):
        with pytest.raises(NoSuchRule, match=f"no rule {number} in in; allowed: 1 to 3"):
            without_rule(acl, IN, number)
        with pytest.raises(NoSuchRule, match=f"no position {number} in in; allowed: 1 to 3"):
            with_moved(acl, IN, 1, number)
    with pytest.raises(NoSuchRule, match="no position 5 in in; allowed: 1 to 4"):
        with_rule(acl, IN, Rule(Action.DROP), 5)
    with pytest.raises(NoSuchRule, match="no rule 1 in out; it has no rules"):
        without_rule(acl, OUT, 1)


def test_a_direction_holds_only_so_many_rules() -> None:
    full = Acl(Side(rules=(Rule(Action.DROP),) * MOST_RULES))
    with pytest.raises(TooManyRules, match="1000"):
        with_rule(full, IN, Rule(Action.DROP), None)
    with_rule(full, OUT, Rule(Action.DROP), None)


def test_defaults_and_sets_are_changed_by_themselves() -> None:
    acl = with_set(with_default(rules("a"), OUT, Action.DROP), "web", ("10.0.0.1",))
    assert (acl.incoming.default, acl.outgoing.default, acl.sets) == (
        Action.ACCEPT,
        Action.DROP,
        {"web": ("10.0.0.1",)},
    )
    assert without_set(acl, "web").sets == {}
    with pytest.raises(NoSuchRule, match="sets of this network: web"):
        without_set(acl, "wbe")
    used, _ = with_rule(acl, OUT, Rule(Action.DROP, destination=("@web",)), None)
    with pytest.raises(SetInUse, match="used by out 1"):
        without_set(used, "web")
