"""How a plugin is: what it says of itself, what became of it here, how its hooks behave. Values and counters only."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from pvc.core.declaration import Declaration
from pvc.core.lifecycle import ServiceStatus
from pvc.core.model import Finding, Severity

LONGEST_TEXT = 300
"""Characters that are kept of an error or a summary: a plugin's text goes into the tree and onto screens."""
MOST_PARTS = 32
"""Names that are published of one plugin's services, needs or conflicts."""


class PluginState(Enum):
    """LOADED <-> STUCK; LEFT_OUT is final."""

    LOADED = "loaded"
    STUCK = "stuck"
    """A call of it has not returned in time. It is not asked anything until that call returns."""
    LEFT_OUT = "left out"
    """It could not be loaded; nothing of it runs."""


@dataclass(frozen=True, slots=True)
class HookTimes:
    """How often a hook was called and how long that took, in seconds."""

    calls: int = 0
    total: float = 0.0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class ServiceReport:
    """A plugin's service."""

    name: str
    state: str
    failures: int = 0
    """Failed steps in a row."""
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class PluginReport:
    """One plugin as its daemon tells of it."""

    name: str
    state: PluginState
    built_in: bool = False
    version: str = ""
    distribution: str = ""
    entry_point: str = ""
    summary: str = ""
    api: int = 0
    hooks: dict[str, HookTimes] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    services: tuple[ServiceReport, ...] = ()
    failures: int = 0
    """Since the daemon started."""
    last_error: str = ""
    last_error_at: float | None = None
    """Seconds since the epoch."""

    def without_figures(self) -> "PluginReport":
        """The report without what changes although nothing has happened."""
        quiet = tuple(replace(service, failures=0) for service in self.services)
        return replace(
            self, hooks=dict.fromkeys(self.hooks, HookTimes()), failures=0, last_error_at=None, services=quiet
        )


@dataclass(slots=True)
class PluginStatus:
    """A plugin that is switched on, and how it has behaved."""

    name: str
    version: str
    origin: str
    """Its entry point: module and object."""
    distribution: str = ""
    built_in: bool = False
    hooks: tuple[str, ...] = ()
    declaration: Declaration = field(default_factory=Declaration)
    services: tuple[str, ...] = ()
    failures: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    times: dict[str, HookTimes] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)
    """The hooks whose last call failed, and why."""
    unguarded: str = ""
    """Why flushes are refused: a gate or step of it may be missing. Empty: none is."""
    stuck: dict[object, str] = field(default_factory=dict)
    """The hooks that have not returned in time, by the call."""
    gone: bool = False
    """It was left out."""

    @property
    def state(self) -> PluginState:
        if self.gone:
            return PluginState.LEFT_OUT
        return PluginState.STUCK if self.stuck else PluginState.LOADED

    def took(self, hook: str, seconds: float) -> None:
        """Count a call."""
        before = self.times.get(hook, HookTimes())
        self.times[hook] = HookTimes(before.calls + 1, before.total + seconds, max(before.longest, seconds))

    def failed(self, hook: str, error: str, at: float | None) -> None:
        """Count a failure."""
        text = shortened(error)
        self.failures += 1
        self.last_error, self.last_error_at = f"{hook}: {text}", at
        self.failing[hook] = text

    def leave_out(self, why: str) -> None:
        """Nothing of it runs."""
        self.gone, self.unguarded = True, shortened(why)

    def findings(self) -> list[Finding]:
        """What a person should know. The text stays the same as long as nothing new happens: it is published."""
        source = f"plugin {self.name}"
        found = []
        if self.unguarded:
            lacks = "is left out" if self.state is PluginState.LEFT_OUT else "lacks a part"
            text = f"{lacks}: {self.unguarded}; this node's flushes are refused; {self.remedy}"
            found.append(Finding(source, Severity.CRITICAL, text))
        if self.state is PluginState.STUCK:
            hooks = ", ".join(sorted(set(self.stuck.values())))
            text = f"does not return from {hooks} and is not asked anything until it does; see what it waits for"
            return [*found, Finding(source, Severity.WARNING, text)]
        if self.failing and not self.unguarded:
            last = "; ".join(f"{hook}: {error}" for hook, error in list(self.failing.items())[:3])
            found.append(Finding(source, Severity.WARNING, f"failed in {last}; see `pvc plugin info {self.name}`"))
        return found

    @property
    def remedy(self) -> str:
        """What to do about a plugin that does not work at all."""
        return f"mend it or set plugins.{self.name}: false, and restart pvcd"

    def report(self, services: Sequence[ServiceStatus]) -> PluginReport:
        """What is published of it; `services` are all of the daemon's."""
        mine = [
            ServiceReport(service.name, service.state.value, service.failures, shortened(service.last_error))
            for service in services
            if service.name in self.services
        ]
        return PluginReport(
            name=self.name,
            state=self.state,
            built_in=self.built_in,
            version=self.version,
            distribution=self.distribution,
            entry_point=self.origin,
            summary=shortened(self.declaration.summary),
            api=self.declaration.api,
            hooks={hook: self.times.get(hook, HookTimes()) for hook in self.hooks},
            needs=self.declaration.needs[:MOST_PARTS],
            conflicts=self.declaration.conflicts[:MOST_PARTS],
            services=tuple(mine[:MOST_PARTS]),
            failures=self.failures,
            last_error=self.last_error,
            last_error_at=self.last_error_at,
        )


def shortened(text: str) -> str:
    """The text on one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
