"""What can be wrong with a configuration, and the words for it: where, what was found, what is allowed.

Owns the wording only: it reads no file and applies no schema.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pvc.core.errors import PvcError

KeyPath = tuple[str | int, ...]
"""Keys and list indexes that lead from the root of a document to a value."""

_LONGEST = 60
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9_]+")
_ODD_NUMBER = re.compile(r"[+-]?[0-9][0-9.,_:' ]{0,30}([A-Za-z%/]{1,15}|[eE][+-]?[0-9]{1,5})?")
"""A number with a unit, an exponent, or signs that group digits."""

_CREDENTIALS = re.compile(":[^/@]+@")
"""Name and password before a host."""

_TYPE_NAMES = {
    "boolean": "true or false without quotes",
    "integer": "a whole number",
    "number": "a number",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "dict": "a mapping (key: value)",
}
_COERCION_NAMES = {
    "mebibytes": 'a whole number of MiB, or text with a unit such as "512M" or "4GiB"',
    "octets": 'a whole number of bytes, or text with a unit such as "64K" or "1MiB"',
    "endpoint": 'text such as "hv1:2181", "10.0.0.1" or "[fd00::1]:2181"',
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right."""

    file: str
    line: int | None
    """Counted from 1; None if the place is not in the file."""
    key: KeyPath
    found: str
    """What is there, as a phrase."""
    allowed: str = ""
    """What may be there; empty if `found` says it."""
    suggestion: str = ""
    """What to do, where it can be told."""

    @property
    def text(self) -> str:
        """The key and what is wrong with it, without the place in a file."""
        told = [self.found, f"allowed: {self.allowed}" if self.allowed else "", self.suggestion]
        said = "; ".join(part for part in told if part)
        return f"{key_text(self.key)}: {said}" if self.key else said

    def __str__(self) -> str:
        return f"{self.file if self.line is None else f'{self.file}:{self.line}'}: {self.text}"


class ConfigError(PvcError):
    """The configuration cannot be used; the message has one line for each problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def key_text(key: KeyPath) -> str:
    """A key path as people write it: `zookeeper.hosts[1]`."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if len(part) <= _LONGEST and _PLAIN_KEY.fullmatch(part) else _quoted(part)
            text += f".{shown}" if text else shown
    return text


def found_text(value: object) -> str:
    """What was found instead of an allowed value, with its type."""
    match value:
        case None:
            return "found nothing (null)"
        case bool():
            return f"found {str(value).lower()} (boolean)"
        case int() | float():
            return f"found {value} (number)"
        case str() if _CREDENTIALS.search(value):
            return "found text that is not shown, because a password may be in it"
        case str():
            return f"found {_quoted(value)} (text)"
        case Mapping():
            return "found a mapping" if value else "found an empty mapping"
        case _:
            return "found a list" if value else "found an empty list"


def value_text(value: object) -> str:
    """A plain value in one line, as YAML writes it; long ones are cut."""
    if isinstance(value, str):
        return _quoted(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def allowed_text(rules: Mapping[str, Any]) -> str:
    """What a cerberus rule set allows; `meta: {allowed: ...}` in the rules overrides the derived text."""
    meta = rules.get("meta", {})
    if "allowed" in meta:
        return str(meta["allowed"])
    for alternatives in ("anyof", "oneof"):
        if alternatives in rules:
            return " or ".join(allowed_text({**_without(rules, alternatives), **each}) for each in rules[alternatives])
    parts = [_kind(rules), _bounds(rules), _lengths(rules)]
    if "regex" in rules:
        parts.append(f"matching {rules['regex']}")
    if "contains" in rules:
        wanted = rules["contains"]
        parts.append(f"with {_listed(wanted if isinstance(wanted, list | tuple | set) else [wanted])}")
    if "forbidden" in rules:
        parts.append(f"not {_listed(rules['forbidden'])}")
    return " ".join(part for part in parts if part)


def near(word: object, known: Sequence[str]) -> str:
    """A question that names the nearest of the known words; empty if none is near."""
    matches = get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return f"did you mean '{matches[0]}'?" if matches else ""


def rewriting(value: object, rules: Mapping[str, Any]) -> str:
    """How to write what was probably meant; empty if it cannot be told."""
    types = rules.get("type", ())
    if value is None:
        return "remove the key to have its default" if rules.get("default") is not None else ""
    if types == "list" and isinstance(value, str | int | float):
        return "put it in brackets: [...]"
    if types == "string" and isinstance(value, int | float) and rules.get("check_with", "name") == "name":
        return "put the text in quotes"
    if types in ("integer", "number", "float") and isinstance(value, str):
        return _as_number(value, rules)
    return ""


def _as_number(text: str, rules: Mapping[str, Any]) -> str:
    if _LEADING_ZERO.fullmatch(text):
        return "write the number without the 0 in front"
    if _PLAIN_NUMBER.fullmatch(text):
        return "write the number without quotes"
    if _ODD_NUMBER.fullmatch(text):
        unit = rules.get("meta", {}).get("unit")
        return f"write the number in digits alone{f', in {unit}' if unit else ''}"
    return ""


def _kind(rules: Mapping[str, Any]) -> str:
    if "allowed" in rules:
        values = _listed(rules["allowed"])
        return f"a list of {values}" if rules.get("type") == "list" else f"one of {values}"
    coercion = rules.get("coerce")
    if isinstance(coercion, str) and coercion in _COERCION_NAMES:
        return _COERCION_NAMES[coercion]
    types = rules.get("type", ())
    names = [_TYPE_NAMES.get(name, name) for name in ([types] if isinstance(types, str) else types)]
    items = rules.get("schema")
    if types == "list" and isinstance(items, Mapping) and (of := allowed_text(items)):
        return f"a list of: {of}"
    return " or ".join(names)


def _bounds(rules: Mapping[str, Any]) -> str:
    unit = f" {rules['meta']['unit']}" if rules.get("meta", {}).get("unit") else ""
    match rules.get("min"), rules.get("max"):
        case None, None:
            return f"in{unit}" if unit else ""
        case low, None:
            return f"of at least {low}{unit}"
        case None, high:
            return f"of at most {high}{unit}"
        case low, high:
            return f"from {low} to {high}{unit}"


def _lengths(rules: Mapping[str, Any]) -> str:
    things = "entries" if rules.get("type") in ("list", "dict") else "characters"
    least = rules.get("minlength", 1 if rules.get("empty") is False else None)
    match least, rules.get("maxlength"):
        case None, None:
            return ""
        case 1, None:
            return "(not empty)"
        case low, None:
            return f"({low} {things} or more)"
        case None, high:
            return f"(at most {high} {things})"
        case low, high:
            return f"({low} to {high} {things})"


def _without(rules: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {rule: constraint for rule, constraint in rules.items() if rule != name}


def _listed(values: Iterable[object]) -> str:
    return ", ".join("null" if value is None else str(value) for value in values)


def _quoted(text: str) -> str:
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    # Whatever is not printable could end the line or steer the reader's terminal.
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in json.dumps(short, ensure_ascii=False)
    )
