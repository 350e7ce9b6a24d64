"""Settings of one VM's own: those keys of the plugins' sections whose schema says `meta: {per_vm: True}`.

A VM's record keeps them flat, by dotted path. Each is checked where it is set, and again where it is used: another
version may have written it. Pure; values are scalars and lists of scalars.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pvc.core.config.document import Document, parse
from pvc.core.config.errortree import problems
from pvc.core.config.problems import ConfigError, near
from pvc.core.config.rules import Rules
from pvc.core.config.schema import entry_rules, full_schema, inner_fields, is_secret
from pvc.core.errors import PvcError

LONGEST = 1000
"""Characters of one value as it is written on a command line."""

_RELATIONS = ("default", "required", "dependencies", "excludes")
_NULLS = ("null", "Null", "NULL", "~")


class BadOption(PvcError):
    """A setting that this VM cannot have; the message says what is allowed."""


@dataclass(frozen=True, slots=True)
class Sound:
    """What is usable of a VM's options, and what is wrong with the others."""

    options: Mapping[str, Any]
    problems: tuple[str, ...]


def per_vm_keys(schemas: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every key that can be set for one VM, in the order of the schemas of the sections."""
    return [key for section, schema in schemas.items() for key in _per_vm(section, schema)]


def checked(schemas: Mapping[str, Mapping[str, Any]], key: str, text: str) -> Any:
    """The value that `text` stands for, as YAML or, for a list, as words with commas between. Raises BadOption."""
    fields = full_schema(schemas)
    rules = _rules(fields, key, per_vm_keys(schemas))
    if len(text) > LONGEST or not text.isprintable() or not text.strip():
        raise BadOption(f"{key}: its value must be one line of 1 to {LONGEST} characters")
    return _valid(key, rules, _read(text.strip(), rules))


def sound(section: str, schema: Mapping[str, Any], options: Mapping[str, Any]) -> Sound:
    """What of a VM's stored options for one section passes the schema that is in use here. Raises nothing."""
    fields = {section: {"type": "dict", "schema": schema}}
    known = list(_per_vm(section, schema))
    good: dict[str, Any] = {}
    wrong: list[str] = []
    for key, value in options.items():
        if key.partition(".")[0] != section:
            continue
        try:
            good[key] = _valid(key, _rules(fields, key, known), value)
        except BadOption as bad:
            wrong.append(str(bad))
    return Sound(good, tuple(wrong))


def overlaid(section_name: str, section: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The section with a VM's options laid over it, all else as it was; options of other sections do not count.

    The options must be `sound`; one that leads below a value is left out.
    """
    result = deepcopy(dict(section))
    for key, value in options.items():
        first, *path = key.split(".")
        if first == section_name and path:
            _lay(result, path, value)
    return result


def _lay(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        inner = values.setdefault(part, {})
        if not isinstance(inner, dict):
            return
        values = inner
    values[path[-1]] = deepcopy(value)


def _per_vm(path: str, fields: Mapping[str, Any]) -> Iterator[str]:
    for name, rules in fields.items():
        inner = inner_fields(rules)
        if inner is not None:
            yield from _per_vm(f"{path}.{name}", inner)
        elif _may_differ(rules):
            yield f"{path}.{name}"


def _may_differ(rules: Mapping[str, Any]) -> bool:
    """Whether one VM may have its own value; never a secret's: a VM's record is in the tree, for every node to read."""
    return bool(rules.get("meta", {}).get("per_vm")) and not is_secret(rules)


def _rules(fields: Mapping[str, Any], key: str, known: Sequence[str]) -> Mapping[str, Any]:
    """The rules of a key that can be set for one VM. Raises BadOption."""
    rules: Mapping[str, Any] = {"type": "dict", "schema": fields}
    for part in key.split("."):
        inner = inner_fields(rules)
        if inner is None or part not in inner:
            raise BadOption(f"{key}: there is no such key; {near(key, known) or _choice(known)}")
        rules = inner[part]
    if (inner := inner_fields(rules)) is not None:
        raise BadOption(f"{key}: stands for several keys; {_choice([k for k in known if k.startswith(f'{key}.')])}")
    if not _may_differ(rules):
        raise BadOption(f"{key}: is set in pvc.yaml for a whole node and cannot be set for one VM; {_choice(known)}")
    return rules


def _choice(known: Sequence[str]) -> str:
    return f"for one VM can be set: {', '.join(known) or 'nothing'}"


def _read(text: str, rules: Mapping[str, Any]) -> Any:
    value = _scalar_or_list(text, rules)
    if rules.get("type") == "list" and value is not None and not isinstance(value, list | dict):
        return [_scalar_or_list(word.strip(), entry_rules(rules) or {}) for word in text.split(",")]
    return value


def _scalar_or_list(text: str, rules: Mapping[str, Any]) -> Any:
    """What YAML makes of the text; the text itself where text is asked for: a shell has taken the quotes away."""
    try:
        value = parse(f"value: {text}", "").values["value"]
    except ConfigError:
        return text
    if value is None:
        return None if text in _NULLS else text
    return text if rules.get("type") == "string" and not isinstance(value, str) else value


def _valid(key: str, rules: Mapping[str, Any], value: Any) -> Any:
    """The value as the schema wants it. Raises BadOption with everything that is wrong with it.

    What a schema says about several keys together is not looked at: the others are those of a node not yet known.
    """
    if not _is_plain(value):
        raise BadOption(f"{key}: only a plain value or a list of plain values can be set for one VM")
    schema: Mapping[str, Any] = {name: rule for name, rule in rules.items() if name not in _RELATIONS}
    document: Any = value
    *above, last = key.split(".")
    schema, document = {last: schema}, {last: document}
    for part in reversed(above):
        schema, document = {part: {"type": "dict", "schema": schema}}, {part: document}
    validator = Rules(schema)
    validator.validate(document)
    wrong = problems(Document(values=document), validator._errors, schema)
    if wrong:
        raise BadOption("; ".join(problem.text for problem in wrong))
    accepted = validator.document
    for part in (*above, last):
        accepted = accepted[part]
    return accepted


def _is_plain(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(part is None or isinstance(part, str | int | float | bool) for part in parts)
