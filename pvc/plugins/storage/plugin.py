"""Hooks of the storage role, and nothing else."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pvc.core.commands import CommandLine
from pvc.core.context import Context, Verdict
from pvc.core.declaration import Declaration
from pvc.core.hookspecs import hookimpl
from pvc.core.model import Finding, NodeFacts, Vm
from pvc.core.service import Service
from pvc.core.storage import HypervisorSecret, OpenBackend
from pvc.core.turns import FlushStep, Gate

if TYPE_CHECKING:
    from pvc.plugins.storage.attachments import Attachments
    from pvc.plugins.storage.backends import Backends
    from pvc.plugins.storage.ceph.care import CephCare
    from pvc.plugins.storage.ceph.cluster import CephCluster
    from pvc.plugins.storage.ceph.osdhost import OsdHost
    from pvc.plugins.storage.directories import Directories
    from pvc.plugins.storage.fencing import Readmissions
    from pvc.plugins.storage.poolwatch import PoolWatch
    from pvc.plugins.storage.schema import Settings
    from pvc.plugins.storage.service import DirectoryWatch
    from pvc.plugins.storage.tasks.leftovers import Leftovers


class StoragePlugin:
    """Knows the node's shared directories and the cluster's pools, and carries out tasks on them.

    `open_directories` opens the door to directories; None: the machine's. `further_backends`: kinds of storage that
    no plugin brings. `open_ceph` opens the doors to Ceph and this machine's OSDs; None: the real ones.
    """

    def __init__(
        self,
        open_directories: "Callable[[], Directories] | None" = None,
        further_backends: Mapping[str, OpenBackend] | None = None,
        open_ceph: "Callable[[], tuple[CephCluster, OsdHost]] | None" = None,
    ) -> None:
        self._open_directories = open_directories
        self._further_backends = further_backends or {}
        self._open_ceph = open_ceph
        self._care: CephCare | None = None
        self._service: DirectoryWatch | None = None
        self._backends: Backends | None = None
        self._pools: PoolWatch | None = None
        self._attachments: Attachments | None = None
        self._readmissions: Readmissions | None = None
        self._leftovers: Leftovers | None = None

    @hookimpl
    def pvc_declaration(self) -> Declaration:
        return Declaration(summary="Carries out work on pools of volumes; keeps VMs from nodes that lack their disks")

    @hookimpl
    def pvc_config_schema(self) -> Mapping[str, Any]:
        from pvc.plugins.storage.schema import SCHEMA

        return SCHEMA

    @hookimpl
    def pvc_services(self, context: Context) -> Sequence[Service]:
        from pvc.plugins.storage.tasks.service import TaskService

        backends, pools, care = self._the_backends(context), self._the_pools(context), self._the_care(context)
        tasks = TaskService(context, backends, pools, self._settings(context), care.work.performers(), care.work.able)
        others = (self._the_readmissions(context), self._the_leftovers(context), care.watch)
        return [self._the_service(context), pools, tasks, *others]

    @hookimpl
    def pvc_flush_gates(self, context: Context) -> Sequence[Gate]:
        return [self._the_care(context).gate]

    @hookimpl
    def pvc_flush_steps(self, context: Context) -> Sequence[FlushStep]:
        return [self._the_care(context).step]

    @hookimpl
    def pvc_node_facts(self, context: Context) -> Mapping[str, Any]:
        parts = (self._the_service(context), self._the_pools(context), self._the_care(context).watch)
        return {name: fact for part in parts for name, fact in part.facts().items()}

    @hookimpl
    def pvc_health(self, context: Context) -> Sequence[Finding]:
        parts = (
            self._the_service(context),
            self._the_pools(context),
            self._the_attachments(context),
            self._the_readmissions(context),
            self._the_leftovers(context),
            self._the_care(context).watch,
        )
        return [finding for part in parts for finding in part.findings()]

    @hookimpl
    def pvc_storage_backends(self, context: Context) -> Mapping[str, OpenBackend]:
        from pvc.core.process import SystemProcesses
        from pvc.plugins.storage.ceph import rbd
        from pvc.plugins.storage.directory import backend as files
        from pvc.plugins.storage.schema import SECTION, settings_from

        processes, settings = SystemProcesses(), settings_from(context.config.section(SECTION))
        return {
            files.KIND: files.opener(processes, context.runtime, self._directories()),
            rbd.KIND: rbd.opener(processes, context.runtime, settings.ceph),
        }

    @hookimpl
    def pvc_vm_needs(self, xml: str, nodes: Mapping[str, NodeFacts]) -> Sequence[str]:
        from pvc.plugins.storage.decide.attachment import needed
        from pvc.plugins.storage.decide.directories import files_of, kept_in
        from pvc.plugins.storage.neighbours import published_in

        published = [published_in(facts) for facts in nodes.values()]
        return (*kept_in(files_of(xml), [one for one in published if one is not None]), *needed(xml))

    @hookimpl
    def pvc_vm_definition(self, context: Context, vm: Vm, xml: str) -> str | None:
        return self._the_attachments(context).definition(vm, xml)

    @hookimpl
    def pvc_placement(self, context: Context, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        return self._the_attachments(context).verdicts(vm, nodes)

    @hookimpl
    def pvc_hypervisor_secrets(self, context: Context) -> Sequence[HypervisorSecret]:
        return self._the_attachments(context).secrets()

    @hookimpl
    def pvc_commands(self, cli: CommandLine) -> None:
        cli.group("directory", help="Shared directories of the nodes with the storage role.").later(
            ("list",), partial(_add_commands, cli)
        )
        cli.group("storage", help="Pools of volumes that VMs have as disks.").later(
            ("status",), partial(_add_status, cli)
        )
        cli.group("storage pool", help="Places that volumes are kept in.").later(
            ("add", "remove", "list", "info"), partial(_add_pool_commands, cli)
        )
        cli.group("storage volume", help="Disks for VMs.").later(
            ("add", "remove", "resize", "rename", "clone", "list", "info", "import", "export"),
            partial(_add_volume_commands, cli),
        )
        cli.group("storage snapshot", help="What volumes held at some moment.").later(
            ("add", "remove", "rollback", "protect", "list"), partial(_add_snapshot_commands, cli)
        )
        cli.group("storage osd", help="Ceph's OSDs: the disks that its data is on.").later(
            ("list", "add", "remove", "in", "out"), partial(_add_osd_commands, cli)
        )
        cli.group("storage flag", help="What Ceph is told not to do for a while.").later(
            ("list", "set", "unset"), partial(_add_flag_commands, cli)
        )
        cli.group("storage task", help="What nodes do with the storage.").later(
            ("list", "watch", "cancel"), partial(_add_task_commands, cli)
        )
        cli.group("vm")
        cli.group("vm disk", help="The disks of a VM.").later(
            ("add", "remove", "list"), partial(_add_disk_commands, cli)
        )

    def _the_care(self, context: Context) -> "CephCare":
        if self._care is None:
            from pvc.plugins.storage.ceph.care import CephCare, system_doors

            settings = self._settings(context)
            cluster, host = self._open_ceph() if self._open_ceph is not None else system_doors(settings.ceph)
            self._care = CephCare(context, cluster, host, settings)
        return self._care

    def _the_attachments(self, context: Context) -> "Attachments":
        if self._attachments is None:
            from pvc.plugins.storage.attachments import Attachments

            self._attachments = Attachments(context, self._the_backends(context))
        return self._attachments

    def _the_readmissions(self, context: Context) -> "Readmissions":
        if self._readmissions is None:
            from pvc.plugins.storage.fencing import Readmissions

            self._readmissions = Readmissions(context, self._the_backends(context))
        return self._readmissions

    def _the_leftovers(self, context: Context) -> "Leftovers":
        if self._leftovers is None:
            from pvc.plugins.storage.tasks.leftovers import Leftovers

            self._leftovers = Leftovers(context)
        return self._leftovers

    def _the_service(self, context: Context) -> "DirectoryWatch":
        if self._service is None:
            from pvc.plugins.storage.service import DirectoryWatch

            self._service = DirectoryWatch(context, self._directories(), self._settings(context))
        return self._service

    def _the_backends(self, context: Context) -> "Backends":
        """All that is done to pools on this node goes through these."""
        if self._backends is None:
            from pvc.plugins.storage.backends import Backends

            self._backends = Backends(
                context.runtime, lambda: {**context.plugins.storage_backends(), **self._further_backends}
            )
        return self._backends

    def _the_pools(self, context: Context) -> "PoolWatch":
        if self._pools is None:
            from pvc.plugins.storage.poolwatch import PoolWatch

            self._pools = PoolWatch(context, self._the_backends(context), self._settings(context))
        return self._pools

    def _settings(self, context: Context) -> "Settings":
        from pvc.plugins.storage.schema import SECTION, settings_from

        return settings_from(context.config.section(SECTION))

    def _directories(self) -> "Directories":
        if self._open_directories is not None:
            return self._open_directories()
        from pvc.plugins.storage.filesystem import SystemDirectories

        return SystemDirectories()


def _add_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.directories import add_commands

    add_commands(cli)


def _add_status(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.pools import add_status

    add_status(cli)


def _add_pool_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.pools import add_commands

    add_commands(cli)


def _add_volume_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.volumes import add_commands

    add_commands(cli)


def _add_snapshot_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.snapshots import add_commands

    add_commands(cli)


def _add_task_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.tasks import add_commands

    add_commands(cli)


def _add_disk_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.disks import add_commands

    add_commands(cli)


def _add_osd_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.ceph import add_osd_commands

    add_osd_commands(cli)


def _add_flag_commands(cli: CommandLine) -> None:
    from pvc.plugins.storage.commands.ceph import add_flag_commands

    add_flag_commands(cli)
