"""A TCP relay between one client and a server on loopback, to cut, mend and cheat: real network faults for one session.

Forwards bytes and understands only the length of ZooKeeper's answers. Runs in one task of its own until `close`.
"""

import selectors
import socket
from dataclasses import dataclass

from pvc.core.runtime import Runtime

_PING_ANSWER = 20
"""Bytes of the answer to a ping, length included; the answer to any request is longer."""


@dataclass(slots=True, eq=False)
class _Pair:
    client: socket.socket
    server: socket.socket

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Relay:
    """Listens on `port` of loopback and forwards each connection to `target`, another port there."""

    def __init__(self, runtime: Runtime, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._pairs: list[_Pair] = []
        self._wanted = True
        self._open = True
        self._lose: bool | None = None
        self._task = runtime.spawn(f"relay to port {target}", self._run)

    def cut(self) -> None:
        """Break all connections and let no new one through until `mend`."""
        self._open = False
        self._waker.send(b"!")

    def mend(self) -> None:
        """Let connections through again."""
        self._open = True

    def lose_next(self, answered: bool) -> None:
        """Swallow the next request, or (`answered`) only the answer to it, and then break the connection."""
        self._lose = answered

    def close(self) -> None:
        """Break everything and end the task."""
        self._wanted = False
        self._waker.send(b"!")
        self._task.join(10.0)

    def _run(self) -> None:
        while self._wanted:
            for key, _ in self._selector.select():
                self._serve(key.fileobj, key.data)
            if not self._open:
                self._drop_all()
        self._drop_all()
        self._selector.close()
        for own in (self._listener, self._waker, self._woken):
            own.close()

    def _serve(self, readable: object, pair: _Pair | None) -> None:
        if readable is self._listener:
            self._accept()
        elif readable is self._woken:
            self._woken.recv(64)
        elif pair in self._pairs and isinstance(readable, socket.socket) and not self._forwarded(pair, readable):
            self._drop(pair)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if not self._open:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5.0)
        except OSError:
            client.close()
            return
        pair = _Pair(client, server)
        self._pairs.append(pair)
        for end in (client, server):
            self._selector.register(end, selectors.EVENT_READ, pair)

    def _forwarded(self, pair: _Pair, source: socket.socket) -> bool:
        """Pass on what has arrived; False if the connection is to be broken."""
        try:
            data = source.recv(65536)
            if not data or self._is_to_be_lost(source is pair.server, data):
                return False
            (pair.client if source is pair.server else pair.server).sendall(data)
        except OSError:
            return False
        return True

    def _is_to_be_lost(self, is_answer: bool, data: bytes) -> bool:
        if self._lose is None or self._lose is not is_answer or len(data) <= _PING_ANSWER:
            return False
        self._lose = None
        return True

    def _drop(self, pair: _Pair) -> None:
        self._pairs.remove(pair)
        for end in (pair.client, pair.server):
            self._selector.unregister(end)
        pair.close()

    def _drop_all(self) -> None:
        for pair in list(self._pairs):
            self._drop(pair)
