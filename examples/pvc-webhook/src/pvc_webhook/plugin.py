"""Hooks of the webhook plugin, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding
from pvc.core.service import Service
from pvc.core.turns import Gate

if TYPE_CHECKING:
    from pvc_webhook.reporter import Reporter


class WebhookPlugin:
    """One instance for each daemon. `post` sends one event; None: to the URL of the configuration."""

    def __init__(self, post: Callable[[bytes], None] | None = None) -> None:
        self._post = post
        self._reporter: Reporter | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(api=1, summary="posts flushes and node events; keeps flushes inside maintenance windows")

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc_webhook.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        reporter = self._made(context)
        return [] if reporter is None else [reporter]

    @hookimpl
    def pvc_flush_gates(self, context: Context) -> Sequence[Gate]:
        from pvc_webhook.gate import WindowGate
        from pvc_webhook.schema import settings

        windows = settings(context.config).windows
        return [WindowGate(windows, context.runtime)] if windows.texts else []

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        from pvc_webhook.schema import FACT, settings

        return {FACT: settings(context.config).windows.as_fact()}

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        reporter = self._made(context)
        return [] if reporter is None else reporter.findings()

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        from pvc_webhook.cli import add_commands

        add_commands(cli)

    def _made(self, context: Context) -> "Reporter | None":
        """The service of this daemon, made once; None: there is nowhere to post to."""
        from pvc_webhook.post import Webhook
        from pvc_webhook.reporter import Reporter
        from pvc_webhook.schema import SECTION, settings

        chosen = settings(context.config)
        if self._reporter is None and (chosen.url or self._post):
            post = self._post or Webhook(chosen.url or "", chosen.timeout)
            session = context.connect(SECTION)
            self._reporter = Reporter(context.node, session, context.runtime, context.log, post, chosen.events)
        return self._reporter
