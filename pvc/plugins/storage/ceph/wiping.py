"""Wipes what an OSD that is out of Ceph's maps has left on this machine, and nothing else: what is not shown to hold
exactly that OSD is left, and told of. Runs in jobs."""

from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.decide.devices import why_not_device
from pvc.plugins.storage.ceph.decide.remains import (
    command,
    left,
    remains_of,
    succeeded,
    unknown,
    why_not_wipe,
    wiped,
)
from pvc.plugins.storage.ceph.osdhost import LocalOsd, OsdHost


class Remains:
    """What is on this machine of one OSD; `uuid`: which of all that have had its number."""

    def __init__(self, host: OsdHost, node: str, cluster: str, id: int, uuid: str) -> None:
        self._host = host
        self._node = node
        self._cluster = cluster
        self._id = id
        self._uuid = uuid

    def why_not(self) -> str:
        """Why its devices cannot be wiped; empty: they can, or none was found. Raises StorageError."""
        osd = self._found()
        return "" if osd is None else self._why_not(osd)

    def wipe(self, taken: str) -> str:
        """Wipe them, and say how that has ended; `taken`: the UUID of the OSD that has its number in Ceph now, or
        empty. Raises StorageError."""
        osd = None
        try:
            osd = self._found()
            if osd is None:
                return unknown(self._id, self._node)
            if succeeded(self._host.osds(), self._cluster, self._id, taken):
                return left(osd, self._node, f"the osd.{self._id} that Ceph has now is on {self._node} as well")
            if why := self._why_not(osd):
                return left(osd, self._node, why)
            self._host.wipe(osd)
            if self._found() is not None:
                raise StorageError("it is still there")
            empty = [path for path in osd.devices if not why_not_device(self._host.device(path))]
        except StorageError as error:
            what = "" if osd is None else f"; {command(osd)}"
            text = f"osd.{self._id} is removed from Ceph, but what it has left on {self._node} could not be wiped: "
            raise StorageError(f"{text}{error}{what}") from error
        return wiped(osd, self._node, empty)

    def _found(self) -> LocalOsd | None:
        return remains_of(self._host.osds(), self._cluster, self._id, self._uuid)

    def _why_not(self, osd: LocalOsd) -> str:
        return why_not_wipe(osd, (self._host.device(path) for path in osd.devices))
