"""What plugins demand of each other (`Declaration.needs`, `conflicts`), as problems of a configuration."""

from collections.abc import Mapping, Sequence

from pvc.core.config.document import Document
from pvc.core.config.problems import KeyPath, Problem, key_text
from pvc.core.config.switches import ROLES, denied_plugins
from pvc.core.decide.roles import Clash, clashes
from pvc.core.declaration import Declaration


def relation_problems(
    document: Document, declarations: Mapping[str, Declaration], enabled: Sequence[str], known: Sequence[str]
) -> list[Problem]:
    """One problem for each plugin that cannot be on beside the others that are, at the line of its switch.

    `enabled`: what the document switches on; of `declarations` only those count. `known`: all plugins installed.
    """
    found: dict[str, list[Clash]] = {}
    for clash in clashes({name: declarations.get(name, Declaration()) for name in enabled}):
        found.setdefault(clash.plugin, []).append(clash)
    return [_problem(document, name, against, known) for name, against in found.items()]


def _problem(document: Document, name: str, against: Sequence[Clash], known: Sequence[str]) -> Problem:
    keys = [switch(name), *(switch(clash.other) for clash in against)]
    file, line = next((place for key in keys if (place := document.origin(key)) is not None), (document.file, None))
    denied = denied_plugins(document)
    said = ", and ".join(_words(clash, known, denied) for clash in against)
    fixes = ", ".join(_fix(clash, known, denied) for clash in against)
    return Problem(file, line, switch(name), said, suggestion=f"{fixes}, or set {key_text(switch(name))}: false")


def switch(name: str) -> KeyPath:
    """The key that switches a plugin on or off."""
    return ("roles" if name in ROLES else "plugins", name)


def _words(clash: Clash, known: Sequence[str], denied: Sequence[str]) -> str:
    other = key_text(switch(clash.other))
    if not clash.needed:
        return f"cannot be on together with {other}"
    if clash.other in denied:
        return f"needs {other}, which deny_plugins denies"
    return f"needs {other}, which is {'off' if clash.other in known else 'not installed'}"


def _fix(clash: Clash, known: Sequence[str], denied: Sequence[str]) -> str:
    if clash.needed and clash.other in denied:
        return f"take {clash.other} out of deny_plugins"
    if clash.needed and clash.other not in known:
        return f"install {clash.other}"
    return f"set {key_text(switch(clash.other))}: {'true' if clash.needed else 'false'}"
