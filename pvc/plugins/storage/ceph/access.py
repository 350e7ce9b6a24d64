"""What a hypervisor needs in order to reach Ceph, read from Ceph's own files on this node: monitors and a key.

Asks Ceph nothing. Must never show, log or write down a key.
"""

import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

from pvc.core.storage import HypervisorSecret, StorageError
from pvc.plugins.storage.ceph.decide.conf import (
    Monitor,
    Sections,
    cluster_of,
    key_in,
    keyrings_of,
    monitors_of,
    option,
    sections_of,
)

PORT = 6789
"""Of a monitor, where its configuration names none; which one does not matter here."""
CLUSTERS = uuid.UUID("d02cbc55-41a5-5c0c-9d4f-3c1d1f0fbb0e")


class Access:
    """The files of one cluster's clients on this node."""

    def __init__(self, conf: str) -> None:
        self._conf = conf

    def monitors(self, user: str) -> Sequence[Monitor]:
        """Where the monitors are. Raises StorageError if the configuration does not tell."""
        text = option(self._sections(), user, "mon_host") or ""
        found = monitors_of(text)
        if not found:
            raise StorageError(
                f"{self._conf} does not say where the monitors are (mon host = {text!r}); give their addresses there"
            )
        return found

    def secret_id(self, user: str) -> str:
        """The UUID of a client's secret: the same on all nodes and after each start, as a VM that moves needs it."""
        sections = self._sections()
        cluster = option(sections, user, "fsid") or option(sections, user, "mon_host") or ""
        return str(uuid.uuid5(CLUSTERS, f"{cluster.lower()}/client.{user}"))

    def secret(self, user: str) -> HypervisorSecret:
        """The secret of a client. Raises StorageError if this node does not have its key."""
        identity = self.secret_id(user)
        return HypervisorSecret(identity, "ceph", f"pvc client.{user} {identity}", self._key(user))

    def _key(self, user: str) -> bytes:
        sections = self._sections()
        if key := key_in(f"[client.{user}]\nkey = {option(sections, user, 'key') or ''}\n", user):
            return key
        paths = keyrings_of(sections, user, cluster_of(self._conf))
        for path in paths:
            try:
                text = Path(path).read_text()
            except (OSError, UnicodeDecodeError):
                continue
            if key := key_in(text, user):
                return key
        raise StorageError(
            f"this node has no key of client.{user}: it is not in {' or '.join(paths)}; make it with `ceph auth"
            f" get-or-create client.{user} mon 'profile rbd' osd 'profile rbd' mgr 'profile rbd'` and put it there"
        )

    def _sections(self) -> Sections:
        try:
            return sections_of(Path(self._conf).read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{self._conf} cannot be read ({error}); see storage.ceph.conf") from error


def own_addresses(monitors: Sequence[Monitor]) -> tuple[str, ...]:
    """The addresses that this machine has on its ways to the monitors. Looks at its routes and sends nothing."""
    found = dict.fromkeys(address for monitor in monitors if (address := _source(monitor)))
    return tuple(found)


def _source(monitor: Monitor) -> str:
    try:
        (family, _, _, _, place), *_ = socket.getaddrinfo(monitor.host, monitor.port or PORT, type=socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect(place)
            return str(way.getsockname()[0])
    except OSError:  # no route, or a name that cannot be resolved
        return ""
