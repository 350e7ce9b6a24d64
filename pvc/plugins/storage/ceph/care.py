"""What a node with the storage role does about Ceph, put together: one of each part, on one door."""

from pvc.core.context import Context
from pvc.plugins.storage.ceph.cluster import CephCluster
from pvc.plugins.storage.ceph.gate import StorageGate
from pvc.plugins.storage.ceph.noout import NooutKeeper
from pvc.plugins.storage.ceph.osdhost import OsdHost
from pvc.plugins.storage.ceph.performers import OsdWork
from pvc.plugins.storage.ceph.step import StorageStep
from pvc.plugins.storage.ceph.watch import CephEyes, CephWatch
from pvc.plugins.storage.schema import CephSettings, Settings


class CephCare:
    """The parts of one node's daemon."""

    def __init__(self, context: Context, cluster: CephCluster, host: OsdHost, settings: Settings) -> None:
        eyes, keeper = CephEyes(context, cluster), NooutKeeper(context, cluster)
        self.watch = CephWatch(context, eyes, keeper, host, settings)
        self.gate = StorageGate(context, eyes, self.watch, settings)
        self.step = StorageStep(context, eyes, self.watch, keeper, settings)
        self.work = OsdWork(context, eyes, self.watch, host, keeper)


def system_doors(settings: CephSettings) -> tuple[CephCluster, OsdHost]:
    """The doors to the real Ceph and to this machine's disks."""
    from pvc.core.process import SystemProcesses
    from pvc.plugins.storage.ceph.monitors import CephByPrograms
    from pvc.plugins.storage.ceph.programs import CephPrograms
    from pvc.plugins.storage.ceph.volume import CephVolume

    processes = SystemProcesses()
    return CephByPrograms(CephPrograms(processes, settings)), CephVolume(processes, settings)
