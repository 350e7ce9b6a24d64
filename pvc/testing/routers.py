"""Routers in memory: the public fake of the gateways' `Routers`. Routes nothing."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from pvc.core.runtime import Runtime
from pvc.plugins.networking.gateway.routers import Router, RouterError, RouterState


class FakeRouters:
    """The routers of one machine; they outlive its daemon, and go on until their time is over. For simulated time."""

    def __init__(self, runtime: Runtime) -> None:
        """`runtime` has the kernel's clock, and the time that is spent if settling is slow."""
        self._runtime = runtime
        self._held: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self.routers: dict[str, Router] = {}
        """What there is, by network, as it was settled last."""
        self.settled: list[Router] = []
        """All that was settled, in order."""
        self.removed: list[str] = []
        self.held: list[tuple[frozenset[str], float]] = []
        """All calls of `hold`."""
        self.looks = 0
        """How often whoever keeps them has looked."""
        self.unavailable = ""
        """Why nothing can be asked or done; empty: it can."""
        self.failing: dict[str, str] = {}
        """Why settling fails, by network."""
        self.slow: dict[str, float] = {}
        """Seconds that settling takes, by network."""
        self.mute = ""
        """Why nobody can be held; empty: they can."""

    def look(self) -> Mapping[str, RouterState]:
        self.looks += 1
        return self.glance()

    def glance(self) -> Mapping[str, RouterState]:
        self._ask()
        return {
            network: RouterState(router.active, self._is_held(network), self._problems.get(network, ""))
            for network, router in sorted(self.routers.items())
        }

    def settle(self, router: Router) -> None:
        self._ask(router.network)
        self.settled.append(router)
        if seconds := self.slow.get(router.network, 0.0):
            self._runtime.sleep(seconds)
        self._problems.pop(router.network, None)
        self.routers[router.network] = router

    def remove(self, network: str) -> None:
        self._ask()
        self.removed.append(network)
        self._problems.pop(network, None)
        self.routers.pop(network, None)

    def hold(self, networks: Collection[str], seconds: float) -> None:
        self._ask()
        if self.mute:
            for network, router in self.routers.items():
                self.routers[network] = replace(router, active=False)
            raise RouterError(self.mute)
        self.held.append((frozenset(networks), seconds))
        self._held = dict.fromkeys(networks, self._runtime.monotonic() + seconds)

    def close(self) -> None:
        """Everything stays."""

    def passes(self, network: str) -> bool:
        """Whether frames come through this machine's router of the network."""
        return network in self.routers and self.routers[network].active and self._is_held(network)

    def spoil(self, network: str, problem: str) -> None:
        """Something of a router breaks, until it is settled again."""
        self._problems[network] = problem

    def boot(self) -> None:
        """The machine starts anew, without routers."""
        self.routers, self._held, self._problems = {}, {}, {}

    def _is_held(self, network: str) -> bool:
        return self._runtime.monotonic() < self._held.get(network, float("-inf"))

    def _ask(self, network: str = "") -> None:
        if why := self.unavailable or self.failing.get(network, ""):
            raise RouterError(why)
