"""Which roles, features and plugins a document switches on: all that is known before any of them is loaded.

Asks no schema and loads no library, for the command line starts with it.
"""

from collections.abc import Mapping, Sequence

from pvc.core.config.document import Document

ROLES: Mapping[str, bool] = {"hypervisor": True, "networking": False, "storage": False}
"""Every role and whether a node has it unless its file says otherwise."""
FEATURES: Mapping[str, bool] = {"flushlock": True, "consolelog": True}
"""Built-in features and whether they are on unless the file says otherwise; third-party plugins are off."""
DEFAULT_NEEDS: Mapping[str, str] = {"consolelog": "hypervisor"}
"""Features that are off unless the file says otherwise where this role is off: they would have nothing to do."""


def enabled_plugins(document: Document, known_plugins: Sequence[str]) -> tuple[str, ...]:
    """The plugins to load, of those that are installed: roles first, each group in the order of the file.

    Raises nothing: what is not plainly true counts as off here, and `validate` then reports it with all the rest.
    """
    roles = _switched_on(document, "roles", ROLES)
    switched = (*roles, *_switched_on(document, "plugins", features_of(roles)))
    return tuple(name for name in switched if name in known_plugins)


def denied_plugins(document: Document) -> tuple[str, ...]:
    """The plugins that are never loaded. Raises nothing, as `enabled_plugins`; roles do not count."""
    given = document.values.get("deny_plugins")
    named = given if isinstance(given, list) else []
    return tuple(name for name in named if isinstance(name, str) and name not in ROLES)


def features_of(roles: Sequence[str]) -> Mapping[str, bool]:
    """Built-in features and whether they are on by default on a node with these roles."""
    return {name: on and (name not in DEFAULT_NEEDS or DEFAULT_NEEDS[name] in roles) for name, on in FEATURES.items()}


def _switched_on(document: Document, group: str, defaults: Mapping[str, bool]) -> list[str]:
    given = document.values.get(group)
    switches = dict(given) if isinstance(given, Mapping) else {}
    for name, on in defaults.items():
        switches.setdefault(name, on)
    denied = denied_plugins(document) if group == "plugins" else ()
    return [
        name
        for name, on in switches.items()
        if on is True and (name in ROLES) == (group == "roles") and name not in denied
    ]
