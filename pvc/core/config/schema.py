"""Core's own part of pvc.yaml as a cerberus schema, and what a schema has to look like.

`meta` beside each key holds `help`, and where they apply `unit`, `allowed` (words in place of the derived ones) and
`default` (words for a default that is computed) and `per_vm` (True: one VM may have its own value; see overrides.py;
only for keys that hold a plain value or a list of them), `live` (True: a reload applies a change of this key, or of all
keys below it; whoever uses it asks the configuration each time) and `secret` (True: the key, which then has no `type`,
takes the place of a secret, and its setting is a Secret or null) and `hidden` (True: a wrong value is not shown: it may
be a secret by mistake). Defaults of `zookeeper` are those of ZooKeeperSettings.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cerberus

from pvc.core.config.rules import Rules, is_absolute_path
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.config.switches import FEATURES, ROLES
from pvc.core.errors import PvcError

_ROLE_HELP = {
    "hypervisor": "Run virtual machines on this node.",
    "networking": "Keep the cluster's networks on this node, and look after its bridges.",
    "storage": "Look after the shared directories of this node.",
}
_FEATURE_HELP = {
    "flushlock": "Flush and unflush one node at a time across the cluster.",
    "consolelog": "Publish the serial console of each VM to the cluster; off where the role hypervisor is off.",
}
_ZOOKEEPER = ZooKeeperSettings()


class PluginSchemaError(PvcError):
    """A plugin's schema is not one that cerberus understands, or takes a name that core uses."""


def _is_root(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, str) and not is_absolute_path(value):
        error(field, "use an absolute path below the top, such as /pvc, without a slash at its end")


def _is_no_role(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    if value in ROLES:
        error(field, f"a role is switched off by roles.{value}: false")


def _has_both_credentials(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    if not isinstance(value, Mapping):
        return
    passwords = [name for name in ("password", "password_file") if value.get(name) is not None]
    if len(passwords) > 1:
        error(field, "set password or password_file, not both")
    elif (value.get("user") is None) != (not passwords):
        error(field, "set both user and password_file (or password), or neither")


def _has_one_place(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    if isinstance(value, Mapping) and sum(place is not None for place in value.values()) != 1:
        error(field, "name exactly one place of the secret: file, environment or credential")


SECRET_PLACES: Mapping[str, Mapping[str, Any]] = {
    "file": {
        "type": "string",
        "nullable": True,
        "check_with": "absolute_path",
        "meta": {"allowed": "an absolute path"},
    },
    "environment": {
        "type": "string",
        "nullable": True,
        "regex": "[A-Za-z_][A-Za-z0-9_]*",
        "meta": {"allowed": "the name of an environment variable"},
    },
    "credential": {
        "type": "string",
        "nullable": True,
        "regex": "[A-Za-z0-9][A-Za-z0-9._-]*",
        "meta": {"allowed": "the name of a credential that systemd passes"},
    },
}
"""Where a secret may be; null takes back what another file says. The secret itself is never in the configuration."""
_SECRET_ALLOWED = "{file: PATH}, {environment: NAME} or {credential: NAME}; the secret itself does not stand here"


def core_schema(known_plugins: Sequence[str] = ()) -> dict[str, Any]:
    """The cerberus schema of all keys but the plugins' sections; `known_plugins` are the installed ones."""
    return {
        "node": {
            "type": "string",
            "check_with": "name",
            "meta": {
                "help": "Name of this node in the cluster.",
                "allowed": "lower-case letters, digits and inner dashes, 63 characters at most",
                "default": "the short host name",
            },
        },
        "address": {
            "type": "string",
            "nullable": True,
            "default": None,
            "check_with": "address",
            "meta": {
                "help": "Address at which other nodes reach this one; without it they resolve its name.",
                "allowed": "an IP address or a host name",
            },
        },
        "zookeeper": {
            "type": "dict",
            "check_with": _has_both_credentials,
            "schema": _zookeeper_fields(),
            "meta": {"help": "Where the cluster's tree is and how to reach it."},
        },
        "roles": {
            "type": "dict",
            "schema": {name: _switch(on, _ROLE_HELP[name]) for name, on in ROLES.items()},
            "meta": {"help": "What this node does. A role that is off loads no code, and its section is not read."},
        },
        "plugins": {
            "type": "dict",
            "schema": {
                name: _switch(FEATURES.get(name, False), _FEATURE_HELP.get(name, f"Load the plugin {name}."))
                for name in dict.fromkeys((*FEATURES, *known_plugins))
                if name not in ROLES
            },
            "meta": {"help": "Features, and third-party plugins by the name of their entry point."},
        },
        "deny_plugins": {
            "type": "list",
            "default": [],
            "schema": {"type": "string", "check_with": _is_no_role},
            "meta": {
                "help": "Features and plugins that are never loaded, whatever `plugins` says; installed or not. The "
                "lists of all files count together."
            },
        },
    }


def full_schema(schemas: Mapping[str, Mapping[str, Any]], known_plugins: Sequence[str] = ()) -> dict[str, Any]:
    """Core's schema and a section for each plugin in `schemas`, ready for `Rules`. Raises PluginSchemaError."""
    fields = core_schema(known_plugins)
    for section, schema in schemas.items():
        check_schema(section, schema)
        # Also where a key is required: a section that is missing then lacks that key.
        settings = {"type": "dict", "schema": schema, "default": {}}
        fields[section] = {**settings, "meta": {"help": f"Settings of the plugin {section}."}}
    return {name: _complete(rules) for name, rules in fields.items()}


def check_schema(section: str, schema: Mapping[str, Any]) -> None:
    """Raise PluginSchemaError if a plugin's section cannot be used."""
    advice = f"mend the plugin, or set plugins.{section} to false"
    if section in core_schema():
        raise PluginSchemaError(f"plugin {section}: its section has the name of one of core's keys; {advice}")
    try:
        rules = Rules({name: _complete(rules) for name, rules in schema.items()})
        rules.validate({})
    except (cerberus.SchemaError, RuntimeError, AttributeError, TypeError) as error:
        raise PluginSchemaError(f"plugin {section}: its configuration schema is faulty: {error}; {advice}") from error
    # A default that its own rules refuse would have every configuration refused.
    if bad := sorted({".".join(map(str, e.document_path)) for e in _beside_missing(rules._errors)}):
        raise PluginSchemaError(
            f"plugin {section}: its configuration schema is faulty: its own rules refuse the default of"
            f" {', '.join(bad)}; {advice}"
        )


def _beside_missing(found: Iterable[Any]) -> Iterator[Any]:
    """All errors but those of required keys, which have no default."""
    for error in found:
        if error.is_group_error and not error.is_logic_error:
            yield from _beside_missing(error.child_errors)
        elif error.code != cerberus.errors.REQUIRED_FIELD.code:
            yield error


def inner_fields(rules: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The rules of each key of a mapping; None if the rules are not those of a mapping with known keys."""
    inner = rules.get("schema")
    return inner if rules.get("type") == "dict" and isinstance(inner, Mapping) else None


def entry_rules(rules: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The rules of the entries of a list; None if the rules are not those of a list with known entries."""
    inner = rules.get("schema")
    return inner if rules.get("type") == "list" and isinstance(inner, Mapping) else None


def is_live(rules: Mapping[str, Any]) -> bool:
    """Whether a reload applies a change of what the rules are for."""
    return bool(rules.get("meta", {}).get("live"))


def is_secret(rules: Mapping[str, Any]) -> bool:
    """Whether the rules are those of a secret."""
    return bool(rules.get("meta", {}).get("secret"))


def _complete(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules with an empty mapping as the default of every mapping, so that the defaults inside are filled in."""
    done = dict(rules)
    if is_secret(rules):
        return _secret(rules)
    if (fields := inner_fields(rules)) is not None:
        done["schema"] = {name: _complete(inner) for name, inner in fields.items()}
        if "default" not in done and not any(inner.get("required") for inner in fields.values()):
            done["default"] = {}
    elif (entry := entry_rules(rules)) is not None:
        done["schema"] = _complete(entry)
    if isinstance(values := rules.get("valuesrules"), Mapping):
        done["valuesrules"] = _complete(values)
    return done


def _secret(rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of a secret: where it is, in one of three ways; null if there is none, unless it is required."""
    optional = {} if rules.get("required") else {"nullable": True, "default": None}
    meta = {"allowed": _SECRET_ALLOWED, **rules["meta"]}
    fixed = {"type": "dict", "schema": dict(SECRET_PLACES), "check_with": _has_one_place, "meta": meta}
    return {**optional, **rules, **fixed}


def _switch(on: bool, text: str) -> dict[str, Any]:
    return {"type": "boolean", "default": on, "meta": {"help": text}}


def _zookeeper_fields() -> dict[str, Any]:
    return {
        "hosts": {
            "type": "list",
            "minlength": 1,
            "default": list(_ZOOKEEPER.hosts),
            "schema": {"type": "string", "coerce": "endpoint"},
            "meta": {"help": "The servers; the port is 2181 unless given, an IPv6 address stands in brackets."},
        },
        "root": {
            "type": "string",
            "default": _ZOOKEEPER.root,
            "check_with": _is_root,
            "meta": {"help": "Path below which this cluster keeps everything.", "allowed": "an absolute path"},
        },
        "session_timeout": {
            "type": "number",
            "min": 1,
            "max": 600,
            "default": _ZOOKEEPER.session_timeout,
            "meta": {"help": "Time after which a silent client counts as dead.", "unit": "s"},
        },
        "connect_timeout": {
            "type": "number",
            "min": 0.1,
            "max": 600,
            "default": _ZOOKEEPER.connect_timeout,
            "meta": {"help": "Time to try to reach a server before giving up.", "unit": "s"},
        },
        "user": {
            "type": "string",
            "nullable": True,
            "default": _ZOOKEEPER.user,
            "regex": r"[^\s:]+",
            "meta": {
                "help": "Name for digest authentication; with it, only this user can read and write the tree.",
                "allowed": "text without spaces and colons",
                "hidden": True,  # somebody may write user:password
            },
        },
        "password": {
            "meta": {"help": "Where the password of user is. password_file: PATH is short for it.", "secret": True},
        },
        "password_file": {
            "type": "string",
            "nullable": True,
            "default": _ZOOKEEPER.password_file,
            "check_with": "absolute_path",
            "meta": {
                "help": "File that holds the password of user; nobody else may read it.",
                "allowed": "an absolute path",
                "hidden": True,  # somebody may write the password itself
            },
        },
    }
