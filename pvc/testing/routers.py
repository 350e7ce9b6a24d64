"""Routers in memory: the public fake of the networking role's `Routers`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from pvc.plugins.networking.gateway.routers import Router, RouterError, RouterState


class FakeRouters:
    """The routers of one machine; they outlive its daemon."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """`monotonic`: the kernel's clock, in seconds."""
        self._monotonic = monotonic
        self._held: dict[str, float] = {}
        self.routers: dict[str, Router] = {}
        """By network, as last settled."""
        self.settled: list[Router] = []
        """All that was settled, in order."""
        self.refusing = ""
        """Why every change is refused; empty: it is not."""

    def look(self) -> Mapping[str, RouterState]:
        now = self._monotonic()
        return {
            name: RouterState(router.active, self._held.get(name, 0.0) > now) for name, router in self.routers.items()
        }

    def settle(self, router: Router) -> None:
        if self.refusing:
            raise RouterError(self.refusing)
        self.routers[router.network] = router
        self.settled.append(router)

    def remove(self, network: str) -> None:
        self.routers.pop(network, None)
        self._held.pop(network, None)

    def hold(self, networks: Collection[str], seconds: float) -> None:
        self._held = dict.fromkeys(networks, self._monotonic() + seconds)

    def close(self) -> None:
        """Everything stays."""

    def reboot(self) -> None:
        """The machine starts anew, without routers."""
        self.routers, self._held = {}, {}

    def change(self, network: str, **options: object) -> None:
        """Somebody changes a router by hand."""
        self.routers[network] = replace(self.routers[network], **options)  # type: ignore[arg-type]  # any field
