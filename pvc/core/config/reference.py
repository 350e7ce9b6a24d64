"""Every key of the configuration as a list, from the same schemas that validate it: for docs, examples and tests."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pvc.core.config.problems import allowed_text
from pvc.core.config.schema import entry_rules, full_schema, inner_fields, is_live, is_secret


@dataclass(frozen=True, slots=True)
class Entry:
    """One key that holds a value."""

    path: str
    """Dotted; `[]` stands for each entry of a list, `<name>` for a key of free choice."""
    type: str
    default: Any
    """The value; or words, where it is computed; None also if there is none."""
    allowed: str
    unit: str
    help: str
    per_vm: bool = False
    """One VM may have its own value."""
    live: bool = False
    """A reload applies a change of it."""


def reference(schemas: Mapping[str, Mapping[str, Any]], known_plugins: Sequence[str] = ()) -> list[Entry]:
    """Core's keys and then those of each plugin section, in the order of the schemas. Raises PluginSchemaError."""
    return [entry for name, rules in full_schema(schemas, known_plugins).items() for entry in _entries(name, rules)]


def _entries(path: str, rules: Mapping[str, Any], live: bool = False) -> Iterator[Entry]:
    fields, items = inner_fields(rules), entry_rules(rules)
    live = live or is_live(rules)
    if fields is not None and not is_secret(rules):
        for name, inner in fields.items():
            yield from _entries(f"{path}.{name}", inner, live)
        return
    yield _entry(path, rules, live)
    if items is not None and inner_fields(items) is not None:
        yield from _entries(f"{path}[]", items, live)
    values = rules.get("valuesrules", {})
    if inner_fields(values) is not None:
        yield from _entries(f"{path}.<name>", values, live)


def _entry(path: str, rules: Mapping[str, Any], live: bool) -> Entry:
    meta = rules.get("meta", {})
    if is_secret(rules):
        rules = {**rules, "type": "secret"}
    types = rules.get("type", "any")
    return Entry(
        path=path,
        type=types if isinstance(types, str) else " or ".join(types),
        default=rules.get("default", meta.get("default")),
        allowed=allowed_text(rules),
        unit=meta.get("unit", ""),
        help=meta.get("help", ""),
        per_vm=bool(meta.get("per_vm")),
        live=live,
    )
