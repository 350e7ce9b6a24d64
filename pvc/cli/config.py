"""The group `config`: check the configuration files, show what is in force and why, list every key."""

import json
import logging
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pvc.cli.application import Application
from pvc.cli.output import Format
from pvc.core.config.explain import as_mapping, explained, secrets_of
from pvc.core.config.layers import collect, unread
from pvc.core.config.problems import ConfigError, Problem, value_text
from pvc.core.config.schema import core_schema
from pvc.core.config.secret import SecretProblem
from pvc.core.residents import role_warnings
from pvc.core.setup import Setup, load_document

quiet = logging.getLogger("pvc.config")
"""Of plugins that are loaded a second time: the client has told already what is wrong with those of its own file."""
quiet.addHandler(logging.NullHandler())
quiet.propagate = False

File = Annotated[str | None, typer.Argument(metavar="FILE", help="The main file; default: the one in use.")]


class ReferenceFormat(StrEnum):
    """What `pvc config reference --format` takes."""

    MARKDOWN = "md"
    JSON_SCHEMA = "json-schema"


def add_commands(cli: Application) -> None:
    """Add to the group `config`."""
    group = cli.group("config")

    @group.command("check")
    def check(
        file: File = None,
        node: Annotated[
            bool, typer.Option("--node", help="Also read each secret, as pvcd on this host would; shows none.")
        ] = False,
        cluster: Annotated[
            bool,
            typer.Option("--cluster", help="Also ask the cluster whether VMs need a role that is off."),
        ] = False,
    ) -> None:
        """Check the configuration files and show every problem with its line."""
        setup = _loaded(cli, file)
        if cluster and (obstacles := role_warnings(cli.connect(), setup.config)):
            cli.fail("\n".join(obstacles))
        if node:
            _demand_secrets(setup)
        for path in setup.document.files:
            cli.say(f"read {path}")
        for note in _passed_over(setup):
            cli.note(f"pvc: {note}")
        where = setup.config.path or "no file: defaults only"
        if broken := setup.plugins.left_out():
            names = ", ".join(status.name for status in broken)
            cli.fail(
                f"{where}: pvcd would run without {names}, and refuse every flush of this node, until that is mended"
            )
        cli.say(f"{where}: in order; node {setup.config.node}, plugins {', '.join(setup.config.enabled())}")

    @group.command("show", listing=True)
    def show(
        file: File = None,
        origin: Annotated[
            bool, typer.Option("--origin", help="List every key with its value and where the value is from.")
        ] = False,
    ) -> None:
        """Show the configuration in force, complete with defaults. Of a secret, only its place is shown."""
        setup = _loaded(cli, file)
        config, overridden = (setup.config, {}) if file else cli.overridden(setup.config)
        if not origin:
            values = as_mapping(config)
            as_json = cli.format is Format.JSON
            cli.say(json.dumps(values, indent=2) if as_json else yaml.safe_dump(values, sort_keys=False).rstrip())
            return
        rows = [
            {"key": each.key, "value": each.value, "in_force": value_text(each.value), "origin": each.origin}
            for each in explained(config, setup.document, overridden)
        ]
        cli.show(rows, ("key", "in_force", "origin"))

    @group.command("reference")
    def show_reference(
        form: Annotated[
            ReferenceFormat, typer.Option("--format", help="Tables, or a JSON Schema for editors.")
        ] = ReferenceFormat.MARKDOWN,
    ) -> None:
        """List every key: default, unit, what is allowed, what it is for. Covers the plugins that are loaded here."""
        from pvc.core.config.editorschema import editor_schema
        from pvc.core.config.markdown import tables
        from pvc.core.config.reference import reference

        names = [status.name for status in cli.plugins.status()]
        if form is ReferenceFormat.JSON_SCHEMA:
            cli.say(json.dumps(editor_schema(cli.schemas, names), indent=1, ensure_ascii=False))
        else:
            cli.say("\n".join(tables(reference(cli.schemas, names))).lstrip("\n"))


def _loaded(cli: Application, file: str | None) -> Setup:
    """The configuration that is asked for; which of its plugins cannot be loaded has been told once, and why."""
    document = cli.readable_document() if file is None else collect(file, os.environ)
    setup = load_document(document, quiet, attended=True)
    told = {status.name for status in cli.plugins.left_out()}
    for status in setup.plugins.left_out():
        if status.name not in told:
            cli.note(f"pvc: plugin {status.name} is left out: {status.unguarded}; {status.remedy}")
    return setup


def _passed_over(setup: Setup) -> Iterator[str]:
    """What stands in the files, or beside them, and has no effect."""
    config, document = setup.config, setup.document
    left_out = {status.name for status in setup.plugins.left_out()}
    for name in document.values:
        if name not in config.sections and name not in core_schema() and name in {**config.roles, **config.plugins}:
            file, line = document.place((name,))
            switch = "roles" if name in config.roles else "plugins"
            why = f"{switch}.{name} is off"
            if name in config.denied:
                why = "deny_plugins names it"
            elif name in left_out:
                why = "the plugin cannot be loaded"
            elif name in config.enabled():
                why = "the plugin has no settings"
            yield f"{file}:{line}: {name}: not read, because {why}"
    if document.path is not None:
        for name in unread(Path(document.path)):
            yield f"conf.d/{name}: not read, because its name does not end in .yaml"


def _demand_secrets(setup: Setup) -> None:
    """Raise ConfigError with every secret that cannot be read here."""
    problems: list[Problem] = []
    for key, secret in secrets_of(setup.config):
        try:
            secret.read()
        except SecretProblem as problem:
            problems.append(Problem(*setup.document.place(key), key, str(problem)))
    if problems:
        raise ConfigError(problems)
