"""Makes a rule of what an administrator has typed, or says all that is wrong with it."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from pvc.core.errors import PvcError
from pvc.plugins.networking.firewall.decide.addresses import (
    ALLOWED,
    SET,
    SET_NAMES,
    NotAnAddress,
    families,
    network_of,
    resolved,
    stored,
)
from pvc.plugins.networking.firewall.rules import WITH_PORTS, Action, Direction, PortRange, Protocol, Rule

LAST_PORT = 65535
MOST = 1000
"""Addresses or ports in one list."""
LONGEST_COMMENT = 200

Choice = TypeVar("Choice", bound=Enum)
FAMILY = {Protocol.ICMP: 4, Protocol.ICMPV6: 6}


class RuleRefused(PvcError):
    """What was typed is no rule: one line for each thing that is wrong, with what is allowed."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Typed:
    """A rule as it was typed; empty: not said."""

    direction: str
    action: str
    protocol: str = ""
    source: str = ""
    destination: str = ""
    source_ports: str = ""
    ports: str = ""
    comment: str = ""


def direction_of(text: str) -> Direction:
    """The direction that was typed. Raises RuleRefused."""
    problems: list[str] = []
    found = _choice(Direction, "direction", text, problems)
    if found is None:
        raise RuleRefused(problems)
    return found


def default_of(text: str) -> Action:
    """The default of a direction that was typed. Raises RuleRefused."""
    if text not in ("accept", "drop"):
        raise RuleRefused([f"default: {text!r} is none; allowed: accept, drop"])
    return Action(text)


def set_of(name: str, entries: Sequence[str]) -> tuple[str, ...]:
    """The addresses of a set as they are stored. Raises RuleRefused."""
    problems = [] if SET.fullmatch(f"@{name}") else [f"set: {name!r} is no name of a set; allowed: {SET_NAMES}"]
    found: list[str] = []
    for entry in (each for text in entries for each in _split(text)):
        if entry.startswith("@"):
            problems.append(f"set: {entry!r}: a set cannot hold a set; allowed: addresses and networks")
        else:
            found += _address("set", entry, problems)
    if len(found) > MOST:
        problems.append(f"set: {len(found)} addresses; at most {MOST} are allowed: use networks")
    if problems:
        raise RuleRefused(problems)
    return tuple(dict.fromkeys(found))


def rule_of(typed: Typed, sets: Mapping[str, tuple[str, ...]]) -> Rule:
    """The rule. Raises RuleRefused with everything that is wrong with it."""
    problems: list[str] = []
    direction = _choice(Direction, "direction", typed.direction, problems)
    action = _choice(Action, "--action", typed.action, problems)
    protocol = _choice(Protocol, "--protocol", typed.protocol or "any", problems)
    rule = Rule(
        action or Action.DROP,
        protocol or Protocol.ANY,
        _addresses("--from", typed.source, sets, problems),
        _addresses("--to", typed.destination, sets, problems),
        _ports("--from-ports", typed.source_ports, problems),
        _ports("--ports", typed.ports, problems),
        typed.comment.strip(),
    )
    if direction is Direction.IN and action is Action.REJECT:
        problems.append("--action reject: a bridge can tell only a VM that sends; for `in` allowed: accept, drop")
    if protocol is not None and protocol not in WITH_PORTS and (rule.ports or rule.source_ports):
        names = ", ".join(each.value for each in WITH_PORTS)
        problems.append(f"--protocol {protocol.value}: has no ports; with ports allowed: {names}")
    if not problems:
        problems += _at_odds(rule, sets)
    if len(rule.comment) > LONGEST_COMMENT or not rule.comment.isprintable():
        problems.append(f"--comment: at most {LONGEST_COMMENT} printable characters are allowed")
    if problems:
        raise RuleRefused(problems)
    return rule


def _at_odds(rule: Rule, sets: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Parts that no packet can fit together, because one is IPv4 and the other IPv6. An empty set may yet be filled."""
    parts = [("--protocol", {FAMILY[rule.protocol]} if rule.protocol in FAMILY else set())]
    parts += [("--from", families(resolved(rule.source, sets))), ("--to", families(resolved(rule.destination, sets)))]
    said = [(option, versions) for option, versions in parts if versions]
    if not said or set.intersection(*(versions for _, versions in said)):
        return []
    words = " but ".join(f"{option} is IPv{'/v'.join(map(str, sorted(versions)))}" for option, versions in said)
    return [f"{words}: no packet fits that; allowed: parts of the same version of IP"]


def _choice(kind: type[Choice], what: str, text: str, problems: list[str]) -> Choice | None:
    values = [member.value for member in kind]
    if text in values:
        return kind(text)
    near = difflib.get_close_matches(text, values, n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    problems.append(f"{what}: {text!r} is none; allowed: {', '.join(values)}{meant}")
    return None


def _split(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _address(what: str, entry: str, problems: list[str]) -> list[str]:
    try:
        return [stored(network_of(entry))]
    except NotAnAddress as error:
        problems.append(f"{what}: {error}")
        return []


def _addresses(option: str, text: str, sets: Mapping[str, tuple[str, ...]], problems: list[str]) -> tuple[str, ...]:
    if text and not _split(text):
        problems.append(f"{option}: {text!r} is empty; allowed: {ALLOWED}, with commas between them")
    found: list[str] = []
    for entry in _split(text):
        if not entry.startswith("@"):
            found += _address(option, entry, problems)
        elif entry[1:] in sets:
            found.append(entry)
        else:
            known = ", ".join(f"@{name}" for name in sorted(sets)) or "none yet"
            problems.append(f"{option}: there is no set {entry!r}; sets of this network: {known}")
    if len(found) > MOST:
        problems.append(f"{option}: {len(found)} entries; at most {MOST} are allowed: use a set")
    return tuple(dict.fromkeys(found))


def _ports(option: str, text: str, problems: list[str]) -> tuple[PortRange, ...]:
    allowed = f"ports and ranges from 1 to {LAST_PORT}, such as 22,80-90"
    if text and not _split(text):
        problems.append(f"{option}: {text!r} is empty; allowed: {allowed}")
    found = []
    for entry in _split(text):
        match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", entry)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= LAST_PORT:
            why = "ends before it begins" if match and 1 <= last < first <= LAST_PORT else "is no port"
            problems.append(f"{option}: {entry!r} {why}; allowed: {allowed}")
            continue
        found.append(PortRange(first, last))
    if len(found) > MOST:
        problems.append(f"{option}: {len(found)} entries; at most {MOST} are allowed: use ranges")
    return tuple(dict.fromkeys(found))
