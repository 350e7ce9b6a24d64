"""Routers in memory: the public fake of the networking role's `Routers`."""

from collections.abc import Collection, Mapping

from pvc.core.runtime import Runtime
from pvc.plugins.networking.gateway.routers import Router, RouterError, RouterState


class FakeRouters:
    """The routers of one machine; they outlive its daemon."""

    def __init__(self, runtime: Runtime) -> None:
        """`runtime` has the kernel's clock."""
        self._monotonic = runtime.monotonic
        self._held: dict[str, float] = {}
        self.routers: dict[str, Router] = {}
        """By network, as last settled."""
        self.settled: list[Router] = []
        """All that was settled, in order."""
        self.held: list[tuple[frozenset[str], float]] = []
        """All calls of `hold`."""
        self.unavailable = ""
        """Why nothing can be asked or done; empty: it can."""
        self.failing: dict[str, str] = {}
        """Why settling fails, by network."""

    def look(self) -> Mapping[str, RouterState]:
        self._ask("")
        now = self._monotonic()
        return {
            name: RouterState(router.active, self._held.get(name, 0.0) > now) for name, router in self.routers.items()
        }

    def settle(self, router: Router) -> None:
        self._ask(router.network)
        self.routers[router.network] = router
        self.settled.append(router)

    def remove(self, network: str) -> None:
        self.routers.pop(network, None)
        self._held.pop(network, None)

    def hold(self, networks: Collection[str], seconds: float) -> None:
        self._ask("")
        self.held.append((frozenset(networks), seconds))
        self._held = dict.fromkeys(networks, self._monotonic() + seconds)

    def close(self) -> None:
        """Everything stays."""

    def passes(self, network: str) -> bool:
        """Whether frames come through this machine's router of the network."""
        router = self.routers.get(network)
        return router is not None and router.active and self._held.get(network, 0.0) > self._monotonic()

    def boot(self) -> None:
        """The machine starts anew, without routers."""
        self.routers, self._held = {}, {}

    def _ask(self, network: str) -> None:
        if why := self.unavailable or self.failing.get(network, ""):
            raise RouterError(why)
