"""For how long something has been so of each VM, as this daemon has seen it. A restart begins to count anew."""

from pvc.core.runtime import Runtime


class Spells:
    """One thing that may be so of a VM."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._begun: dict[str, tuple[object, float]] = {}

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._begun

    def lasting(self, uuid: str, what: object = True) -> float:
        """Seconds for which this very thing has been so of the VM. What differs from last time begins now; what is
        False or None is not so, and lasts for 0 seconds."""
        now = self._runtime.monotonic()
        if what is None or what is False:
            self._begun.pop(uuid, None)
            return 0.0
        before, begun = self._begun.get(uuid, (what, now))
        if before != what:
            begun = now
        self._begun[uuid] = (what, begun)
        return now - begun

    def end(self, uuid: str) -> None:
        """It is not so any more."""
        self._begun.pop(uuid, None)
