"""What cerberus found wrong, turned into problems with a line and words for an administrator."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cerberus import errors

from pvc.core.config.document import Document
from pvc.core.config.problems import KeyPath, Problem, allowed_text, found_text, near, rewriting
from pvc.core.config.schema import entry_rules, inner_fields, is_secret
from pvc.core.config.switches import ROLES

_TELLING = (errors.COERCION_FAILED.code, errors.NOT_NULLABLE.code, errors.BAD_TYPE.code)
"""Where several rules fail at one place, the first of these explains the rest."""
MERGE_KEY = "merge keys are not understood; write out the keys that it stands for"
HIDDEN = "found a value that is not shown, because the secret may be in it"


def problems(document: Document, found: Iterable[Any], fields: Mapping[str, Any]) -> list[Problem]:
    """One problem for each place that cerberus complains about; `fields` is the schema it used."""
    told: dict[KeyPath, Problem] = {}
    for error, rules in sorted(_leaves(found, fields), key=lambda leaf: _rank(leaf[0])):
        key: KeyPath = error.document_path
        told.setdefault(key, _problem(document, error, rules, fields))
    return list(told.values())


def misplaced(document: Document, key: KeyPath, value: object, rules: Mapping[str, Any]) -> Problem:
    """The problem of a value whose type is not the one that the rules ask for."""
    return Problem(*document.place(key), key, found_text(value), allowed_text(rules), rewriting(value, rules))


def _rank(error: Any) -> int:
    return _TELLING.index(error.code) if error.code in _TELLING else len(_TELLING)


def _leaves(found: Iterable[Any], fields: Mapping[str, Any]) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    for error in found:
        rules = _rules_at(fields, error.document_path)
        if error.code == errors.KEYSRULES.code:
            yield from ((child, rules.get("keysrules", {})) for child in error.child_errors)
        elif error.is_group_error and not error.is_logic_error:
            yield from _leaves(error.child_errors, fields)
        else:
            yield error, rules


def _rules_at(fields: Mapping[str, Any], key: KeyPath) -> Mapping[str, Any]:
    """The rules for a place of the document; empty if the schema has none."""
    rules: Mapping[str, Any] = {"type": "dict", "schema": fields}
    for part in key:
        inner = inner_fields(rules)
        if inner is not None and part in inner:
            rules = inner[str(part)]
        elif "items" in rules and isinstance(part, int):
            rules = rules["items"][part]
        else:
            rules = entry_rules(rules) or rules.get("valuesrules") or {}
    return rules


def _problem(document: Document, error: Any, rules: Mapping[str, Any], fields: Mapping[str, Any]) -> Problem:
    key: KeyPath = error.document_path
    place = document.place(key)
    if error.code == errors.UNKNOWN_FIELD.code:
        known = inner_fields(_rules_at(fields, key[:-1])) or {}
        return _unknown(document, key, known, hidden=_within_secret(fields, key[:-1]))
    if error.code == errors.REQUIRED_FIELD.code:
        return Problem(*place, key, "a required key is missing", allowed_text(rules))
    found = HIDDEN if _within_secret(fields, key) else found_text(error.value)
    if error.code == errors.CUSTOM.code:
        return Problem(*place, key, found, suggestion=_reason(error))
    if error.code in (errors.DEPENDENCIES_FIELD.code, errors.DEPENDENCIES_FIELD_VALUE.code):
        return Problem(*place, key, found, suggestion=f"it needs {_names(error.constraint)} as well")
    if error.code == errors.EXCLUDES_FIELD.code:
        return Problem(*place, key, found, suggestion=f"it cannot stand beside {_names(error.constraint)}")
    if error.code == errors.COERCION_FAILED.code:
        return Problem(*place, key, found, allowed_text(rules), _reason(error))
    if found == HIDDEN:
        return Problem(*place, key, found, allowed_text(rules))
    suggestion = near(error.value, [str(word) for word in rules.get("allowed", ())]) or rewriting(error.value, rules)
    return Problem(*place, key, found, allowed_text(rules), suggestion)


def _within_secret(fields: Mapping[str, Any], key: KeyPath) -> bool:
    """Whether what stands there may be a secret that somebody has written into the file."""
    around = [_rules_at(fields, key[:length]) for length in range(1, len(key) + 1)]
    return any(is_secret(rules) or rules.get("meta", {}).get("hidden") for rules in around)


def _unknown(document: Document, key: KeyPath, known: Mapping[str, Any], *, hidden: bool) -> Problem:
    """`hidden`: the key itself may be a secret, written in braces by mistake."""
    place = document.place(key)
    names = sorted(known)
    start, colon, _ = str(key[-1]).partition(":")
    if colon:  # `password:secret` is a key of that name
        shown = (*key[:-1], f"{start}:…")
        return Problem(*place, shown, "unknown key", suggestion="write a space after the colon, or put text in quotes")
    if hidden and not near(key[-1], names):
        return Problem(*place, key[:-1], "a key that is not shown, because the secret may be in it", ", ".join(names))
    allowed = ", ".join(names) or "no keys at all"
    if key[:-1] == ("plugins",):
        role = key[-1] in ROLES
        advice = (
            f"it is a role: set roles.{key[-1]}" if role else near(key[-1], names) or "install it or remove the line"
        )
        return Problem(*place, key, "no such plugin is installed", allowed, advice)
    suggestion = MERGE_KEY if key[-1] == "<<" else near(key[-1], names)
    return Problem(*place, key, "unknown key", "" if suggestion else allowed, suggestion)


def _reason(error: Any) -> str:
    return "; ".join(str(part) for part in error.info if part)


def _names(constraint: Any) -> str:
    names = [constraint] if isinstance(constraint, str) else list(constraint)
    return ", ".join(str(name) for name in names)
