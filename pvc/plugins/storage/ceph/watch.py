"""Looks at Ceph from this node, in jobs: publishes how it is, and says what is wrong. Where there is no configuration
of Ceph it only looks, once a minute, whether there is one now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pvc.core.context import Context
from pvc.core.lookup import all_nodes
from pvc.core.model import Finding, NodeState
from pvc.core.runtime import Signal
from pvc.plugins.storage.ceph.asking import Answer, Question
from pvc.plugins.storage.ceph.cluster import CephCluster, NoCeph, Osd, Survey, Use
from pvc.plugins.storage.ceph.decide.health import findings, osd_states, owner, silence, state_of, why_not_stop
from pvc.plugins.storage.ceph.noout import NooutKeeper
from pvc.plugins.storage.ceph.osdhost import OsdHost
from pvc.plugins.storage.ceph.published import CephState, published
from pvc.plugins.storage.ceph.schedule import ABSENT, IDLE, SHORTEST, time_limit
from pvc.plugins.storage.schema import Settings

LEAVING = frozenset({NodeState.FLUSHING, NodeState.FLUSHED})
"""Who flushes a node means to switch it off."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the monitors say of Ceph, seen from this node."""

    survey: Survey
    own: tuple[Osd, ...] = ()
    """The OSDs of this node."""
    strangers: tuple[int, ...] = ()
    """The OSDs that are on no node of this cluster."""
    leaving: tuple[int, ...] = ()
    """The OSDs that are up on other nodes which are flushed or being flushed: they may be switched off any moment."""


@dataclass(frozen=True, slots=True)
class Details:
    """What only the manager daemon can say."""

    usage: Mapping[int, Use]
    unstoppable: str
    """Why the OSDs of this node must not be stopped; empty: they may."""


class CephEyes:
    """Takes whole looks at Ceph, for the watch, the gate and the flush. Every call may take long: use it in jobs."""

    def __init__(self, context: Context, cluster: CephCluster) -> None:
        self.cluster = cluster
        self._node = context.node
        self._context = context

    def look(self) -> Look:
        """A fresh look at what the monitors know. Raises NoCeph, StorageError, Disconnected."""
        survey = self.cluster.survey()
        known = all_nodes(self._context.coordinator)[0]
        nodes = {node.name: node.address for node in known}
        nodes[self._node] = self._context.config.address or ""
        owners = {osd.id: owner(osd, nodes) for osd in survey.osds}
        own = tuple(osd for osd in survey.osds if owners[osd.id] == self._node)
        empty = {node.name for node in known if node.state in LEAVING} - {self._node}
        leaving = tuple(osd.id for osd in survey.osds if osd.up and owners[osd.id] in empty)
        return Look(survey, own, tuple(id for id, name in owners.items() if not name), leaving)

    def details(self, look: Look) -> Details:
        """What the manager daemon says of that. Raises StorageError."""
        return Details(self.cluster.usage(), self.why_not_stop(look))

    def why_not_stop(self, look: Look) -> str:
        """Why the OSDs of this node that are up must not be stopped now; empty: they may. Raises StorageError."""
        ids = [osd.id for osd in look.own if osd.up]
        if not ids:
            return ""
        # The manager hears of an OSD that went down seconds after the monitors: it is told by asking about it, too.
        down = [osd.id for osd in look.survey.osds if not osd.up]
        return why_not_stop(self.cluster.ok_to_stop([*ids, *down, *look.leaving]), look.survey.pools, ids, look.leaving)


class CephWatch:
    """Service `storage-ceph`."""

    name = "storage-ceph"
    after: tuple[str, ...] = ()

    def __init__(
        self, context: Context, eyes: CephEyes, keeper: NooutKeeper, host: OsdHost, settings: Settings
    ) -> None:
        self.wake: Signal = context.runtime.signal()
        self._runtime = context.runtime
        self._refresh_facts = context.refresh_facts
        self._settings = settings
        self._eyes = eyes
        self._keeper = keeper
        self._host = host
        limit = time_limit(settings)
        self._question = Question(context.runtime, self.wake, "look at Ceph", limit, eyes.look)
        self._further = Question(context.runtime, self.wake, "ask Ceph's manager", 2 * limit, self._ask_further)
        self._absent = False
        self._details: Details | None = None
        self._hurried = False
        self._taken: Answer[Look] | None = None
        self._seen: Look | None = None
        """The last look; None: there was none, or there is no Ceph."""
        self._problem: str | None = None
        """Why Ceph could not be asked the last time; None: it could, or there is no Ceph."""

    def step(self) -> float:
        before = (self._seen, self._problem, self._details)
        answer = self._question.answer()
        if answer is not None and answer is not self._taken:
            self._taken = answer
            self._take(answer.value)
        further = self._further.answer()
        self._details = further.value if further and isinstance(further.value, Details) else None
        if before != (self._seen, self._problem, self._details):
            self._refresh_facts()
        if not self._question.asking():
            now = self._runtime.monotonic()
            due = now if answer is None else answer.asked + self._pause()
            if now < due and not self._hurried:
                return due - now
            self._hurried = False
            self._question.begin()
        return self._question.left() + 0.001

    def hurry(self) -> None:
        """Have a look soon: something was changed. Returns at once; safe from any thread."""
        self._hurried = True
        self.wake.set()

    def stop(self) -> None:
        """A look that hangs is left to itself: it holds nothing that anybody waits for."""

    def look(self) -> Look | None:
        """The last look, which is up to half a minute old; None: there was none, or Ceph cannot be asked now."""
        return None if self._problem else self._seen

    def problem(self) -> str:
        """Why Ceph cannot be asked now; empty: it can, or nobody has tried yet, or there is no Ceph."""
        return self._problem or ""

    def none_here(self) -> bool:
        """Whether this node has no OSDs: as Ceph says, or said last; where it never said, as this machine says."""
        if self._absent or self._seen is not None:
            return self._seen is None or not self._seen.own
        return self._problem is not None and not self._host.local()

    def complete(self) -> bool:
        """Whether Ceph has told all it is asked for: what this node's OSDs hold, too."""
        return self._details is not None and self._seen is not None and self._seen.survey.mgr

    def unstoppable(self) -> str:
        """Why the OSDs of this node must not be stopped, when it was asked last; empty: they may, or nobody knows."""
        return "" if self._details is None or not self.look() else self._details.unstoppable

    def facts(self) -> Mapping[str, Any]:
        """What the node publishes: nothing before the first look, or where there is no Ceph."""
        seen = self._seen
        osds = {} if seen is None else osd_states(seen.own, self._details.usage if self._details else {})
        if self._problem:
            return published(CephState(self._problem), osds)
        return {} if seen is None else published(state_of(seen.survey, seen.strangers, self.unstoppable()), osds)

    def findings(self) -> list[Finding]:
        """What is wrong with Ceph, as this node sees it."""
        if self._problem:
            return [silence(self._problem)]
        return [] if self._seen is None else findings(self._seen.survey, self._seen.own, self._settings.nearly_full)

    def _take(self, value: Look | Exception) -> None:
        match value:
            case NoCeph():
                self._seen, self._problem, self._absent = None, None, True
            case Exception():
                self._problem = str(value)
            case _:
                self._seen, self._problem, self._absent = value, None, False
                if value.own and value.survey.mgr:
                    self._further.begin()

    def _ask_further(self) -> Details:
        assert self._seen is not None, "asked for once there was a look"
        self._keeper.tidy()
        return self._eyes.details(self._seen)

    def _pause(self) -> float:
        if self._absent:
            return ABSENT
        calm = self._seen is not None and self._seen.survey.health == "HEALTH_OK" and not self._seen.survey.recovering
        return max(self._settings.interval, IDLE if calm and self._problem is None else SHORTEST)
