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

DEFAULT_PORT = 6789
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

    def addresses(self, user: str) -> Sequence[str]:
        """This machine's addresses on the ways to the monitors, which are those that Ceph knows its clients by.

        Sends nothing. Raises StorageError if there is no way to any.
        """
        found = [_source(monitor) for monitor in self.monitors(user)]
        if not any(found):
            raise StorageError(f"this machine has no way to any monitor that {self._conf} names; look at its network")
        return tuple(dict.fromkeys(address for address in found if address))

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


def _source(monitor: Monitor) -> str:
    """The address from which this machine would speak to a monitor; empty: there is no way to it."""
    try:
        for family, kind, protocol, _, target in socket.getaddrinfo(
            monitor.host, monitor.port or DEFAULT_PORT, type=socket.SOCK_DGRAM
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(target)  # of a datagram socket: looks the way up, and sends nothing
                return str(probe.getsockname()[0])
    except OSError:
        pass
    return ""
