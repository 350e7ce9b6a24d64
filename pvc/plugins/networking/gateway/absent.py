"""What stands where this machine's routers cannot be made: it refuses with the reason, so it is given no gateway."""

from collections.abc import Collection, Mapping

from pvc.plugins.networking.gateway.routers import Router, RouterError, RouterState


class AbsentRouters:
    """The `Routers` of a machine that makes none."""

    def __init__(self, why: str) -> None:
        self._why = why

    def look(self) -> Mapping[str, RouterState]:
        raise RouterError(self._why)

    def glance(self) -> Mapping[str, RouterState]:
        raise RouterError(self._why)

    def settle(self, router: Router) -> None:
        raise RouterError(self._why)

    def remove(self, network: str) -> None:
        """There is none."""

    def hold(self, networks: Collection[str], seconds: float) -> None:
        """There is nothing that could pass."""

    def close(self) -> None:
        """There is nothing to give back."""
