"""The configuration in force in a running daemon, and what a reload makes of it.

A key marked `live` changes at once, for whatever asks for it next; any other stays as it was until the daemon starts
anew. A configuration with a problem changes nothing.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pvc.core.config.explain import as_mapping, plain
from pvc.core.config.problems import KeyPath, key_text, value_text
from pvc.core.config.schema import core_schema, inner_fields, is_live
from pvc.core.config.settings import Config
from pvc.core.errors import PvcError
from pvc.core.model import Finding, Severity

SOURCE = "configuration"
"""Source of the findings."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key whose value in the files is not the one in force."""

    key: KeyPath
    old: Any
    new: Any
    live: bool

    def __str__(self) -> str:
        done = "applied" if self.live else "needs a restart of pvcd"
        return f"{key_text(self.key)}: {value_text(plain(self.old))} -> {value_text(plain(self.new))}, {done}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reload has done."""

    changes: tuple[Change, ...] = ()
    problem: str = ""
    """Why it has changed nothing; one line for each thing that is wrong."""

    @property
    def waiting(self) -> tuple[Change, ...]:
        """The changes that need a restart."""
        return tuple(change for change in self.changes if not change.live)


class LiveConfig:
    """Holds the configuration; `now` may be asked from any thread, `reload` comes from one at a time."""

    def __init__(self, config: Config, schemas: Mapping[str, Mapping[str, Any]], log: logging.Logger) -> None:
        """`schemas`: those of the loaded plugins."""
        self._config = config
        self._schemas = schemas
        self._log = log
        self._outcome = Outcome()

    def now(self) -> Config:
        """The configuration in force."""
        return self._config

    def reload(self, read: Callable[[], Config]) -> Outcome:
        """Take over what may change; `read` gives the configuration that the files have now. Raises nothing."""
        try:
            wanted = read()
            changes, sections = self._compare(wanted)
        except PvcError as error:
            self._outcome = Outcome(problem=str(error))
        except Exception as error:  # the edge: a daemon that runs must not end because of a file
            self._log.error("configuration: %s", error, exc_info=error)
            self._outcome = Outcome(problem=f"reading it failed: {error}")
        else:
            self._config = replace(self._config, sections=sections)
            self._outcome = Outcome(tuple(changes))
        self._tell(self._outcome)
        return self._outcome

    def findings(self) -> list[Finding]:
        """What the last reload has left to do for a person."""
        if self._outcome.problem:
            first, *more = self._outcome.problem.splitlines()
            others = f" (and {len(more)} more, see the log)" if more else ""
            text = f"the last reload failed and changed nothing: {first}{others}; correct it and reload pvcd"
            return [Finding(SOURCE, Severity.WARNING, text)]
        if waiting := self._outcome.waiting:
            keys = ", ".join(key_text(change.key) for change in waiting)
            return [Finding(SOURCE, Severity.WARNING, f"changed, but not in force before a restart of pvcd: {keys}")]
        return []

    def _compare(self, wanted: Config) -> tuple[list[Change], dict[str, Mapping[str, Any]]]:
        """Every difference to the configuration in force, and the sections with the live ones taken over."""
        changes = _core_changes(self._config, wanted)
        sections: dict[str, Mapping[str, Any]] = {}
        for name, old in self._config.sections.items():
            new = wanted.sections.get(name, old)  # switched off now: that change is told, the plugin still runs
            sections[name] = _taken_over(self._schemas.get(name, {}), old, new, (name,), changes, live=False)
        return changes, sections

    def _tell(self, outcome: Outcome) -> None:
        for line in outcome.problem.splitlines():
            self._log.error("configuration: %s", line)
        if outcome.problem:
            self._log.error("configuration: not reloaded, the one in force stays; correct it and reload pvcd")
            return
        for change in outcome.changes:
            self._log.info("configuration: %s", change)
        if not outcome.changes:
            self._log.info("configuration: read again, nothing has changed")


def _core_changes(old: Config, new: Config) -> list[Change]:
    names = core_schema().keys()
    before, after = (
        dict(_leaves({name: part for name, part in as_mapping(config).items() if name in names}, ()))
        for config in (old, new)
    )
    return [
        Change(key, before.get(key), after.get(key), live=False)
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _leaves(value: Any, key: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*key, name))
    else:
        yield key, value


def _taken_over(
    fields: Mapping[str, Any],
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    path: KeyPath,
    changes: list[Change],
    *,
    live: bool,
) -> dict[str, Any]:
    """The old values with those of live keys from the new ones; notes every difference."""
    result = dict(old)
    for name in dict.fromkeys((*old, *new)):
        rules, before, after = fields.get(name, {}), old.get(name), new.get(name)
        may, inner = live or is_live(rules), inner_fields(rules)
        if inner is not None and isinstance(before, Mapping) and isinstance(after, Mapping):
            result[name] = _taken_over(inner, before, after, (*path, name), changes, live=may)
        elif before != after:
            changes.append(Change((*path, name), before, after, may))
            if may:
                result[name] = after
    return result
