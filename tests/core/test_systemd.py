"""What systemd is told."""

import socket
from pathlib import Path

from pvc.core.systemd import notify


def test_a_state_reaches_the_socket_that_systemd_names(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        assert notify("READY=1", {"NOTIFY_SOCKET": path})
        assert systemd.recv(64) == b"READY=1"


def test_an_abstract_socket_works_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0pvc-test-notify")
        systemd.settimeout(5)
        assert notify("STOPPING=1", {"NOTIFY_SOCKET": "@pvc-test-notify"})
        assert systemd.recv(64) == b"STOPPING=1"


def test_without_systemd_or_with_a_dead_socket_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})
