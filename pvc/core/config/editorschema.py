"""The schemas of core and plugins as one JSON Schema (draft 2020-12), by which editors complete and check pvc.yaml.

It says what an editor can use and never refuses what pvc accepts; what it cannot express is left to
`pvc config check`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pvc.core.config.rules import HOST_NAME, NODE_NAME, PATH, SIZE, URI
from pvc.core.config.schema import entry_rules, full_schema, inner_fields, is_secret

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TYPES = {
    "boolean": "boolean",
    "integer": "integer",
    "float": "number",
    "number": "number",
    "string": "string",
    "list": "array",
    "dict": "object",
}
_SAME = {"min": "minimum", "max": "maximum"}
_PATTERNS = {"name": NODE_NAME, "absolute_path": PATH, "uri_template": URI}


def editor_schema(schemas: Mapping[str, Mapping[str, Any]], known_plugins: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON Schema of pvc.yaml with these plugins' sections. Raises PluginSchemaError."""
    fields = full_schema(schemas, known_plugins)
    return {
        "$schema": DIALECT,
        "title": "pvc.yaml",
        "description": "The configuration of a node, or of a client, of a pvc cluster.",
        **_mapping(fields),
        "type": ["object", "null"],
    }


def _translated(rules: Mapping[str, Any]) -> dict[str, Any]:
    """One value: what it is for, and what it may be."""
    return {**_words(rules), **_constraints(rules)}


def _words(rules: Mapping[str, Any]) -> dict[str, Any]:
    meta = rules.get("meta", {})
    unit = f" In {meta['unit']}." if meta.get("unit") else ""
    words: dict[str, Any] = {}
    if meta.get("help"):
        words["description"] = meta["help"] + unit
    if rules.get("default") not in (None, {}):
        words["default"] = rules["default"]
    return words


def _constraints(rules: Mapping[str, Any]) -> dict[str, Any]:
    for alternatives, word in (("anyof", "anyOf"), ("oneof", "oneOf")):
        if alternatives in rules:
            others = {name: value for name, value in rules.items() if name not in (alternatives, "meta", "default")}
            return {word: [_constraints({**others, **each}) for each in rules[alternatives]]}
    if rules.get("coerce") in ("mebibytes", "octets"):
        number = {"type": "integer", **_renamed(rules)}
        return {"anyOf": [number, {"type": "string", "pattern": _whole(SIZE)}, *_null(rules)]}
    found = {**_type(rules), **_renamed(rules), **_lengths(rules)}
    if "allowed" in rules and rules.get("type") != "list":
        found["enum"] = [*rules["allowed"], *([None] if rules.get("nullable") else [])]
    if "forbidden" in rules:
        found["not"] = {"enum": list(rules["forbidden"])}
    if pattern := _pattern(rules):
        found["pattern"] = pattern
    return {**found, **_inner(rules)}


def _type(rules: Mapping[str, Any]) -> dict[str, Any]:
    named = rules.get("type", ())
    types = [_TYPES[name] for name in ([named] if isinstance(named, str) else named) if name in _TYPES]
    if not types:
        return {}
    # A heading with nothing below it is an empty mapping.
    if rules.get("nullable") or (inner_fields(rules) is not None and not is_secret(rules)):
        types.append("null")
    return {"type": types[0] if len(types) == 1 else types}


def _renamed(rules: Mapping[str, Any]) -> dict[str, Any]:
    return {word: rules[rule] for rule, word in _SAME.items() if rule in rules}


def _null(rules: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    return [{"type": "null"}] if rules.get("nullable") else []


def _lengths(rules: Mapping[str, Any]) -> dict[str, Any]:
    things = {"list": "Items", "dict": "Properties"}.get(str(rules.get("type")), "Length")
    least = rules.get("minlength", 1 if rules.get("empty") is False else None)
    found = {f"min{things}": least, f"max{things}": rules.get("maxlength")}
    return {word: value for word, value in found.items() if value is not None}


def _pattern(rules: Mapping[str, Any]) -> str:
    if "regex" in rules:
        return _whole(rules["regex"])
    if rules.get("coerce") == "endpoint":
        return r"^(\[[^\[\]]+\]|[^:\[\]]+)(:[0-9]{1,5})?$"
    check = rules.get("check_with")
    if check == "address":
        return f"^({HOST_NAME}|[0-9A-Fa-f:.]+)$"
    return _whole(_PATTERNS[check]) if isinstance(check, str) and check in _PATTERNS else ""


def _inner(rules: Mapping[str, Any]) -> dict[str, Any]:
    if is_secret(rules):
        return {**_mapping(rules["schema"]), "minProperties": 1, "maxProperties": 1}
    if (fields := inner_fields(rules)) is not None:
        return _mapping(fields)
    found: dict[str, Any] = {}
    if rules.get("type") == "list":
        if (entry := entry_rules(rules)) is not None:
            found["items"] = _translated(entry)
        elif "items" in rules:
            each = [_translated(item) for item in rules["items"]]
            found |= {"prefixItems": each, "items": False, "minItems": len(each)}
        elif "allowed" in rules:
            found["items"] = {"enum": list(rules["allowed"])}
    if isinstance(names := rules.get("keysrules"), Mapping):
        found["propertyNames"] = _constraints(names)
    if isinstance(values := rules.get("valuesrules"), Mapping):
        found["additionalProperties"] = _translated(values)
    return found


def _mapping(fields: Mapping[str, Any]) -> dict[str, Any]:
    required = [name for name, rules in fields.items() if rules.get("required")]
    return {
        "properties": {name: _translated(rules) for name, rules in fields.items()},
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _whole(pattern: str) -> str:
    return f"^({pattern})$"
