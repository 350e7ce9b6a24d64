"""Changes of a network's rules: each takes an Acl and answers the Acl that is wanted."""

from dataclasses import replace

from pvc.core.errors import PvcError
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, Rule

MOST_RULES = 1000
"""In one direction of a network."""


class NoSuchRule(PvcError):
    """There is no rule of that number, or no set of that name."""


class SetInUse(PvcError):
    """A set cannot be removed while rules name it."""


class TooManyRules(PvcError):
    """The direction holds as many rules as it may."""


def with_rule(acl: Acl, direction: Direction, rule: Rule, at: int | None) -> tuple[Acl, int]:
    """The rules with one more, and its number: `at`, or after all others. Raises NoSuchRule, TooManyRules."""
    side = acl.side(direction)
    if len(side.rules) >= MOST_RULES:
        raise TooManyRules(
            f"{direction.value} has {MOST_RULES} rules, more are not allowed; use sets and lists of ports"
        )
    number = len(side.rules) + 1 if at is None else _demanded(at, len(side.rules) + 1, direction, "position")
    rules = (*side.rules[: number - 1], rule, *side.rules[number - 1 :])
    return acl.with_side(direction, replace(side, rules=rules)), number


def without_rule(acl: Acl, direction: Direction, number: int) -> tuple[Acl, Rule]:
    """The rules without that one, and what it was. Raises NoSuchRule."""
    side = acl.side(direction)
    _demanded(number, len(side.rules), direction, "rule")
    rules = side.rules[: number - 1] + side.rules[number:]
    return acl.with_side(direction, replace(side, rules=rules)), side.rules[number - 1]


def with_moved(acl: Acl, direction: Direction, number: int, to: int) -> Acl:
    """The rules with one of them at another place: afterwards its number is `to`. Raises NoSuchRule."""
    rest, rule = without_rule(acl, direction, number)
    _demanded(to, len(acl.side(direction).rules), direction, "position")
    return with_rule(rest, direction, rule, to)[0]


def with_default(acl: Acl, direction: Direction, default: Action) -> Acl:
    """The rules with another default."""
    return acl.with_side(direction, replace(acl.side(direction), default=default))


def with_set(acl: Acl, name: str, entries: tuple[str, ...]) -> Acl:
    """The rules with a set of these addresses; it may be empty, and then fits nothing."""
    return replace(acl, sets={**acl.sets, name: entries})


def without_set(acl: Acl, name: str) -> Acl:
    """The rules without a set. Raises NoSuchRule, SetInUse."""
    if name not in acl.sets:
        raise NoSuchRule(f"there is no set {name!r}; sets of this network: {', '.join(sorted(acl.sets)) or 'none'}")
    if users := _users(acl, f"@{name}"):
        raise SetInUse(f"the set {name} is used by {', '.join(users)}; remove these rules first")
    return replace(acl, sets={each: entries for each, entries in acl.sets.items() if each != name})


def _users(acl: Acl, entry: str) -> list[str]:
    return [
        f"{direction.value} {number}"
        for direction in Direction
        for number, rule in enumerate(acl.side(direction).rules, 1)
        if entry in (*rule.source, *rule.destination)
    ]


def _demanded(number: int, last: int, direction: Direction, what: str) -> int:
    if 1 <= number <= last:
        return number
    allowed = f"allowed: 1 to {last}" if last else "it has no rules"
    raise NoSuchRule(f"there is no {what} {number} in {direction.value}; {allowed}")
