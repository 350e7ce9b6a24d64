"""From a file name to settings and plugins: the same path for the daemon, the client and `pvc config check`."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from pvc.core.config.document import Document
from pvc.core.config.layers import collect
from pvc.core.config.settings import Config
from pvc.core.config.switches import enabled_plugins
from pvc.core.config.validation import validate
from pvc.core.plugins import Plugins, installed


@dataclass(frozen=True, slots=True)
class Setup:
    """A validated configuration, the plugins that it names, and the files as they were read."""

    config: Config
    plugins: Plugins
    document: Document


def load(path: str | None, log: logging.Logger, environment: Mapping[str, str] | None = None) -> Setup:
    """Read the configuration (see `collect`) and load the plugins it switches on.

    Raises ConfigError with every problem, PluginProblem.
    """
    return load_document(collect(path, os.environ if environment is None else environment), log)


def load_document(document: Document, log: logging.Logger, *, attended: bool = False) -> Setup:
    """Load the plugins that a document switches on, and validate it; `attended`: as in `Plugins`.

    Raises ConfigError, PluginProblem.
    """
    known = sorted(installed())
    plugins = Plugins(log, attended=attended)
    plugins.load(enabled_plugins(document, known))
    return Setup(settings(document, plugins), plugins, document)


def settings(document: Document, plugins: Plugins) -> Config:
    """The settings of a document, given the plugins it names. Raises ConfigError."""
    return validate(
        document,
        plugins.schemas(),
        sorted(installed()),
        host_name=socket.gethostname(),
        declarations=plugins.declarations(),
    )
