"""From a document to settings, or to the complete list of what is wrong with it.

In two stages, because a plugin's schema is known only once it is loaded: `enabled_plugins` of switches.py says which to
load,
`validate` does the rest. Neither touches the machine: fitness of the node is the plugins' business.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pvc.core.config.document import Document
from pvc.core.config.errortree import misplaced, problems
from pvc.core.config.problems import ConfigError, KeyPath, Problem
from pvc.core.config.relations import relation_problems
from pvc.core.config.rules import Rules, node_name
from pvc.core.config.schema import (
    PluginSchemaError,
    core_schema,
    entry_rules,
    full_schema,
    inner_fields,
    is_secret,
)
from pvc.core.config.secret import Secret
from pvc.core.config.settings import Config, ZooKeeperSettings
from pvc.core.config.switches import FEATURES, ROLES, enabled_plugins, features_of
from pvc.core.declaration import Declaration


def validate(
    document: Document,
    schemas: Mapping[str, Mapping[str, Any]],
    known_plugins: Sequence[str],
    *,
    host_name: str,
    declarations: Mapping[str, Declaration] | None = None,
) -> Config:
    """The settings of a document, complete with defaults.

    `schemas` are those of the loaded plugins by section; the section of another known plugin is not looked at.
    `known_plugins` are all that are installed. `declarations`: what loaded plugins need and cannot bear; of those that
    the document switches on it must be so. Raises ConfigError with every problem, PluginSchemaError.
    """
    fields = full_schema(schemas, known_plugins)
    unread = {*ROLES, *FEATURES, *known_plugins} - fields.keys()
    shape_problems: list[Problem] = []
    read = {
        key: _shaped(document, (key,), value, fields.get(key, {}), shape_problems)
        for key, value in document.values.items()
        if key not in unread
    }
    rules = Rules(fields)
    try:
        rules.validate(read)
    except Exception as error:  # functions in schemas of third parties; without their text, which may hold a value
        raise PluginSchemaError(
            f"the schema of a plugin fails on this configuration with {type(error).__name__}; switch plugins of third"
            " parties off one after the other to see which"
        ) from error
    all_problems = (
        *document.problems,
        *shape_problems,
        *_missing_roles(document, known_plugins),
        *relation_problems(document, declarations or {}, enabled_plugins(document, known_plugins), known_plugins),
        *problems(document, rules._errors, fields),
    )
    if all_problems:
        raise ConfigError(_in_order(all_problems, document.files))
    return _config(document, _with_secrets({"type": "dict", "schema": fields}, rules.document), schemas, host_name)


def _shaped(document: Document, key: KeyPath, value: Any, rules: Mapping[str, Any], found: list[Problem]) -> Any:
    """A copy of a value for cerberus, which fails on a mapping where the schema has a list of entries.

    What has the wrong shape is noted and replaced by null. A heading with nothing below it is an empty mapping.
    """
    fields, entry = inner_fields(rules), entry_rules(rules)
    if fields is not None and value is None and not rules.get("nullable"):
        return {}
    if (fields is not None and isinstance(value, list)) or (entry is not None and isinstance(value, Mapping)):
        found.append(misplaced(document, key, value, rules))
        return None
    if isinstance(value, Mapping):
        inner = fields or {}
        return {name: _shaped(document, (*key, name), v, inner.get(name, {}), found) for name, v in value.items()}
    if isinstance(value, list):
        return [_shaped(document, (*key, index), v, entry or {}, found) for index, v in enumerate(value)]
    return value


def _missing_roles(document: Document, known_plugins: Sequence[str]) -> list[Problem]:
    roles = document.values.get("roles")
    given = roles if isinstance(roles, Mapping) else {}
    return [
        Problem(
            *document.place(("roles", name)),
            ("roles", name),
            "this role is not installed",
            suggestion=f"install the plugin {name}, or set roles.{name}: false",
        )
        for name in ROLES
        if given.get(name) is True and name not in known_plugins
    ]


def _in_order(found: Sequence[Problem], files: Sequence[str]) -> list[Problem]:
    """By file and line, and of several at the same place the first, which explains the others."""
    told: dict[tuple[str, int | None, KeyPath], Problem] = {}
    for problem in found:
        told.setdefault((problem.file, problem.line, problem.key), problem)
    order = {file: index for index, file in enumerate(files)}
    return sorted(told.values(), key=lambda problem: (order.get(problem.file, 0), problem.line or 0))


def _with_secrets(rules: Mapping[str, Any], value: Any) -> Any:
    """The validated value with a Secret in place of each mapping that names one."""
    if is_secret(rules):
        return value if value is None else Secret(**value)
    if isinstance(value, Mapping):
        fields, others = inner_fields(rules) or {}, rules.get("valuesrules") or {}
        return {name: _with_secrets(fields.get(name, others), inner) for name, inner in value.items()}
    if isinstance(value, list) and (entry := entry_rules(rules)) is not None:
        return [_with_secrets(entry, each) for each in value]
    return value


def _config(document: Document, settings: Mapping[str, Any], sections: Iterable[str], host_name: str) -> Config:
    zookeeper = settings["zookeeper"]
    stated = document.values.get("plugins") or {}
    roles = [name for name, on in settings["roles"].items() if on]
    by_default = {name: on for name, on in features_of(roles).items() if name not in stated}
    return Config(
        node=settings.get("node", node_name(host_name)),
        address=settings["address"],
        zookeeper=ZooKeeperSettings(
            hosts=tuple(zookeeper["hosts"]),
            root=zookeeper["root"],
            session_timeout=float(zookeeper["session_timeout"]),
            connect_timeout=float(zookeeper["connect_timeout"]),
            user=zookeeper["user"],
            password_file=zookeeper["password_file"],
            password=zookeeper["password"],
        ),
        roles=settings["roles"],
        plugins={
            name: on and name not in settings["deny_plugins"]
            for name, on in {**settings["plugins"], **by_default}.items()
        },
        denied=tuple(settings["deny_plugins"]),
        sections={name: settings[name] for name in sections if name not in core_schema()},
        path=document.path,
    )
