"""Publishes how a node's plugins are, for people: nothing is decided by it, nobody watches it, it is seldom written.

The record has a znode of its own, because a change of the node's facts wakes other nodes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.coordination import Clash, Conflict, Coordinator, Create, Put
from pvc.core.pluginstatus import PluginReport
from pvc.core.records import decode, encode
from pvc.core.runtime import Runtime, Signal

SETTLED = 10.0
"""Seconds after the start until the first report: by then services have been stepped."""
SELDOM = 30.0
"""Seconds between two reports at least, whatever happens."""
FIGURES = 600.0
"""Seconds after which the figures alone, calls and times, are worth a report."""
LARGEST = 64 * 1024
"""Bytes of a report; beyond that it goes without figures and hooks."""


@dataclass(frozen=True, slots=True)
class PluginReports:
    """All plugins of a node that are switched on there."""

    at: float
    """Seconds since the epoch."""
    plugins: tuple[PluginReport, ...] = ()


def read_reports(coordinator: Coordinator, node: str) -> PluginReports | None:
    """What a node's daemon has told last; None: nothing. Raises Garbage, Disconnected."""
    path = keys.node_plugins(node)
    znode = coordinator.get(path)
    return None if znode is None else decode(PluginReports, znode.data, path)


class PluginReporter:
    """Service: writes `nodes/<node>/plugins` when something has happened to a plugin."""

    name = "plugins"
    after = ("liveness",)

    def __init__(
        self,
        node: str,
        coordinator: Coordinator,
        runtime: Runtime,
        registered: Callable[[], bool],
        gather: Callable[[], Sequence[PluginReport]],
    ) -> None:
        self.wake: Signal = runtime.signal()
        self._path = keys.node_plugins(node)
        self._coordinator = coordinator
        self._runtime = runtime
        self._registered = registered
        self._gather = gather
        self._not_before = runtime.monotonic() + SETTLED
        self._told: list[PluginReport] | None = None
        self._told_at = 0.0

    def step(self) -> float:
        if not self._registered():
            self._told = None
            return 1.0
        now = self._runtime.monotonic()
        if now < self._not_before:
            return self._not_before - now
        reports = list(self._gather())
        news = [report.without_figures() for report in reports]
        if news != self._told or now - self._told_at >= FIGURES:
            self._told = None  # until the answer comes, what was written is not known
            self._not_before = now + SELDOM
            self._publish(PluginReports(self._runtime.now(), tuple(reports)))
            self._told, self._told_at = news, now
        return SELDOM

    def stop(self) -> None:
        """The report stays readable; the missing session tells that it is old."""

    def _publish(self, reports: PluginReports) -> None:
        data = encode(reports)
        if len(data) > LARGEST:
            data = encode(PluginReports(reports.at, tuple(replace(each, hooks={}) for each in reports.plugins)))
        try:
            self._coordinator.commit([Put(self._path, data)])
        except Conflict as conflict:
            if conflict.clash is not Clash.MISSING:
                raise
            self._coordinator.commit([Create(self._path, data)])
