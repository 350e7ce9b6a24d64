"""Keeps the daemons of EVPN as this node's configuration wants them, and says what is wrong with them.

They outlive pvcd. Where the fabric is static, or has become so, it ends those that it finds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pvc.core.context import Context
from pvc.core.lookup import read_facts
from pvc.core.mirror import Mirror
from pvc.core.model import Finding, Node, Severity
from pvc.core.runtime import Runtime, Signal
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import Dataplane, DataplaneError, Link, Withdraw
from pvc.plugins.networking.evpn.daemons import Daemons, FrrError, Program, Speaker
from pvc.plugins.networking.evpn.decide.bgp import (
    End,
    Start,
    Step,
    Sweep,
    Tell,
    disagreement,
    fabric_in_words,
    next_steps,
    peers_of,
    problem,
    warnings,
)
from pvc.plugins.networking.records import read_nodes
from pvc.plugins.networking.schema import SECTION, Fabric, Settings

LOOK = 15.0
"""Seconds between looks when nothing else happens: a daemon may have died."""
AGAIN = 2.0
"""Seconds to the next look after something was done, or could not be."""
COMPARE = 300.0
"""Seconds between looks at what other nodes publish: a hundred nodes then read 33 times a second, all together."""
COMPARE_AGAIN = 60.0
"""The same while they differ."""
NOT_YET = "FRR has not been started yet; wait a few seconds"


class EvpnService:
    """Service `evpn`. What is public of it may be asked from any thread."""

    name = "evpn"
    after: tuple[str, ...] = ("liveness",)

    def __init__(
        self,
        context: Context,
        open_dataplane: Callable[[], Dataplane],
        open_daemons: Callable[[Runtime], Daemons],
        settings: Settings,
    ) -> None:
        self.wake: Signal = context.runtime.signal()
        self.on = settings.fabric is Fabric.EVPN
        """BGP tells the tunnels what goes where, rather than pvc."""
        self.problem = NOT_YET if self.on else ""
        """Why no managed network can be used on this node; empty: they can."""
        self._me, self._context, self._evpn = context.node, context, settings.evpn
        self._log = context.log
        self._open = open_dataplane
        self._dataplane: Dataplane | None = None
        self._daemons = open_daemons(context.runtime)
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._woken: Signal | None = None
        self._warnings: list[str] = []
        self._disagreement = ""
        self._compare_at = 0.0

    def wake_others(self, signal: Signal) -> None:
        """Have this set whenever `problem` changes."""
        self._woken = signal

    def step(self) -> float:
        if not self._context.registered():
            return AGAIN
        nodes = {name: node for name, node in read_nodes(self._mirror).items() if SECTION in node.roles}
        speaker = self._speaker(nodes)
        pause = self._settle(speaker, nodes)
        self._compare(speaker, nodes)
        return pause

    def stop(self) -> None:
        """The daemons stay: the VMs keep talking."""
        if self._dataplane is not None:
            self._dataplane.close()

    def facts(self) -> Mapping[str, Any]:
        """What the node publishes."""
        return {keys.FABRIC: fabric_in_words(Speaker("", self._evpn.asn, self._evpn.port) if self.on else None)}

    def findings(self) -> list[Finding]:
        """What is wrong with BGP on this node, or between the nodes."""
        told = [(Severity.CRITICAL, text) for text in (self.problem, self._disagreement) if text]
        return [Finding(SECTION, *one) for one in [*told, *((Severity.WARNING, text) for text in self._warnings)]]

    def _speaker(self, nodes: Mapping[str, Node]) -> Speaker | None:
        if not self.on:
            return None
        own = nodes[self._me].address if self._me in nodes else ""
        return Speaker(own, self._evpn.asn, self._evpn.port, self._evpn.bfd, own in self._evpn.neighbors)

    def _settle(self, speaker: Speaker | None, nodes: Mapping[str, Node]) -> float:
        """Take the steps there are; the seconds to the next look."""
        try:
            seen = self._daemons.look()
            if speaker and (why := problem(speaker.address, {} if Program.ZEBRA in seen.running else self._links())):
                self._say(why)
                return LOOK
            addresses = [node.address for node in nodes.values()]
            peers = peers_of(speaker, self._evpn.neighbors, addresses) if speaker else ()
            steps = next_steps(seen, speaker, peers)
            for step in steps:
                self._take(step, speaker)
                self._log.info("evpn: %s", _in_words(step))
            self._say("", self._warned({} if steps else seen.peers, nodes) if speaker else [])
        except (FrrError, DataplaneError, ImportError) as error:
            self._say(str(error))
            return AGAIN
        return AGAIN if steps else LOOK

    def _warned(self, sessions: Mapping[str, bool], nodes: Mapping[str, Node]) -> list[str]:
        return warnings(self._links(), sessions, {node.address: name for name, node in nodes.items()})

    def _take(self, step: Step, speaker: Speaker | None) -> None:
        match step:
            case Sweep():
                for tunnel, entries in self._opened().look().forwarding.items():
                    for entry in entries:
                        self._opened().apply(Withdraw(tunnel, entry))
            case Start(program, text) if speaker is not None:
                self._daemons.start(program, text, speaker)
            case End(program):
                self._daemons.end(program)
            case Tell(commands):
                self._daemons.tell(commands)

    def _links(self) -> Mapping[str, Link]:
        return self._opened().look().links

    def _opened(self) -> Dataplane:
        if self._dataplane is None:
            self._dataplane = self._open()
        return self._dataplane

    def _say(self, why: str, warned: Sequence[str] = ()) -> None:
        changed = why != self.problem
        self.problem, self._warnings = why, list(warned)
        if changed:
            self._log.info("evpn: %s", why or "in order")
            self._context.refresh_facts()
            if self._woken is not None:
                self._woken.set()

    def _compare(self, speaker: Speaker | None, nodes: Mapping[str, Node]) -> None:
        """Look now and then whether all nodes have the same fabric; without a watch, since facts change often."""
        if self._context.runtime.monotonic() < self._compare_at:
            return
        others = {name: read_facts(self._context.coordinator, name).extra for name in nodes if name != self._me}
        told = {name: str(extra[keys.FABRIC]) for name, extra in others.items() if keys.FABRIC in extra}
        self._disagreement = disagreement(fabric_in_words(speaker), told)
        pause = COMPARE_AGAIN if self._disagreement else COMPARE
        self._compare_at = self._context.runtime.monotonic() + pause


def _in_words(step: Step) -> str:
    match step:
        case Start(program, _) | End(program):
            return f"{program.value}: {type(step).__name__.lower()}ed"
        case Tell(commands):
            return "; ".join(commands[2:])
        case Sweep():
            return "the tunnels have no entries now"
