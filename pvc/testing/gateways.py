"""Watches the routers of a simulated cluster: no network may ever have two gateways that let frames pass."""

from collections.abc import Callable, Collection, Mapping

from pvc.core.runtime import Runtime
from pvc.plugins.networking.gateway.routers import Router, Routers, RouterState
from pvc.testing.routers import FakeRouters


class GatewayWatch:
    """All routers of a cluster by node. More can only pass after a call, so each call is looked at."""

    def __init__(self) -> None:
        self.twice: list[str] = []
        """What must not be: each time with the network and the nodes."""
        self._of: dict[str, FakeRouters] = {}

    def add(self, node: str, routers: FakeRouters) -> None:
        """Another node, or another machine of that name."""
        self._of[node] = routers

    def acting(self, network: str) -> list[str]:
        """The nodes whose router of a network is up and lets frames pass."""
        return sorted(node for node, routers in self._of.items() if routers.passes(network))

    def look(self, when: float, networks: Collection[str]) -> None:
        """Take note of every one of these networks that has two gateways."""
        for network in networks:
            if len(nodes := self.acting(network)) > 1:
                self.twice.append(f"{when:.2f} {network} has gateways on {', '.join(nodes)}")


class WatchedRouters:
    """The routers of one node, watched; making one takes a while."""

    def __init__(self, routers: Routers, watch: GatewayWatch, runtime: Runtime, takes: Callable[[], float]) -> None:
        """`takes`: seconds for the next change."""
        self._routers = routers
        self._watch = watch
        self._runtime = runtime
        self._takes = takes

    def look(self) -> Mapping[str, RouterState]:
        return self._routers.look()

    def glance(self) -> Mapping[str, RouterState]:
        return self._routers.glance()

    def settle(self, router: Router) -> None:
        self._runtime.sleep(self._takes())
        self._routers.settle(router)
        self._watch.look(self._runtime.monotonic(), [router.network])

    def remove(self, network: str) -> None:
        self._runtime.sleep(self._takes())
        self._routers.remove(network)

    def hold(self, networks: Collection[str], seconds: float) -> None:
        self._routers.hold(networks, seconds)
        self._watch.look(self._runtime.monotonic(), networks)

    def close(self) -> None:
        self._routers.close()
