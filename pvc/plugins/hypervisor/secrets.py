"""Keeps in the hypervisor what VMs' disks are reached by. In memory only: never stored, shown or logged."""

from collections.abc import Iterable

from pvc.core.context import Context
from pvc.core.model import Finding, Severity
from pvc.core.runtime import Signal
from pvc.core.storage import HypervisorSecret
from pvc.plugins.hypervisor.host import GuestEvent, Hypervisor, HypervisorError, HypervisorGone

LOOK = 5.0
"""Seconds between looks: at what plugins want, and at whether the hypervisor has forgotten it."""
LOOK_AGAIN = 1.0
"""The same while the hypervisor does not answer."""


class Secrets:
    """Service `secrets`. What plugins want no more stays until the hypervisor's daemon ends: a VM may use it."""

    name = "secrets"
    after: tuple[str, ...] = ()

    def __init__(self, context: Context, hypervisor: Hypervisor) -> None:
        self.wake: Signal = context.runtime.signal()
        self._plugins = context.plugins
        self._refresh_facts = context.refresh_facts
        self._log = context.log
        self._hypervisor = hypervisor
        self._given: dict[str, HypervisorSecret] = {}
        """By UUID, what this daemon has defined."""
        self._problems: dict[str, str] = {}
        hypervisor.listen(self._heard)

    def step(self) -> float:
        problems: dict[str, str] = {}
        try:
            for secret in self._missing(self._plugins.hypervisor_secrets()):
                try:
                    self._define(secret)
                except HypervisorGone:
                    raise
                except HypervisorError as error:
                    problems[secret.uuid] = str(error)
        except HypervisorGone:  # the service that looks after VMs tells of that
            return LOOK_AGAIN
        except HypervisorError as error:
            problems[""] = str(error)
        self._note(problems)
        return LOOK

    def stop(self) -> None:
        """VMs keep running, and a daemon that comes back finds what it has defined."""

    def demand(self, xml: str) -> None:
        """See to it that the hypervisor knows what a definition, or a device, refers to. Raises HypervisorError."""
        if "<secret" not in xml:
            return
        for secret in self._missing(one for one in self._plugins.hypervisor_secrets() if one.uuid in xml):
            self._define(secret)

    def findings(self) -> list[Finding]:
        """One for each that the hypervisor does not take."""
        return [Finding("hypervisor", Severity.CRITICAL, text) for _, text in sorted(self._problems.items())]

    def _heard(self, event: GuestEvent | None) -> None:
        if event is None:  # the hypervisor may have been started anew, and know nothing
            self.wake.set()

    def _missing(self, wanted: Iterable[HypervisorSecret]) -> list[HypervisorSecret]:
        """Those of them that the hypervisor does not know, or knows otherwise than this daemon says."""
        them = list(wanted)
        known = self._hypervisor.secrets() if them else frozenset[str]()
        return [one for one in them if one.uuid not in known or self._given.get(one.uuid) != one]

    def _define(self, secret: HypervisorSecret) -> None:
        self._hypervisor.define_secret(secret)
        self._given[secret.uuid] = secret
        self._log.info("secret %s (%s %s): defined", secret.uuid, secret.usage, secret.name)

    def _note(self, problems: dict[str, str]) -> None:
        if problems != self._problems:
            for text in problems.values():
                self._log.warning("%s", text)
            self._problems = problems
            self._refresh_facts()
