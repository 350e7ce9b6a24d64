"""The door to ZooKeeper: the only module that imports kazoo, and where its untyped values end.

Reconnecting is kazoo's business; no call here repeats anything or waits longer than the session timeout. Watches and
listeners run on kazoo's threads.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    ConnectionDropped,
    ConnectionLoss,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    OperationTimeoutError,
    RequestTimeoutError,
    RolledBackError,
    RuntimeInconsistency,
    SessionExpiredError,
    SessionMovedError,
    WriterNotClosedException,
)
from kazoo.handlers.threading import KazooTimeoutError, SequentialThreadingHandler
from kazoo.protocol.states import KazooState, ZnodeStat
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL

from pvc.core.config.secret import SecretProblem
from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import (
    Check,
    Clash,
    Conflict,
    CoordinationError,
    Create,
    Delete,
    Disconnected,
    Op,
    Put,
    SessionState,
    Watch,
    Znode,
    refuse_too_large,
)
from pvc.core.errors import PvcError
from pvc.core.keys import SCHEMA
from pvc.core.runtime import Runtime

PIPELINE = 200
"""Reads under way at once in `get_many`; more gain nothing and make the answers of everybody else wait."""

LONGEST_PAUSE = 3.0
"""Seconds at most between two attempts of kazoo to reach a server again."""

_OUTCOME_UNKNOWN = (
    ConnectionLoss,
    ConnectionDropped,
    SessionExpiredError,  # kazoo's ConnectionClosedError is one of these
    SessionMovedError,
    OperationTimeoutError,
    RequestTimeoutError,
    KazooTimeoutError,
)
_CLASHES = {
    NoNodeError: Clash.MISSING,
    NodeExistsError: Clash.EXISTS,
    BadVersionError: Clash.CHANGED,
    NotEmptyError: Clash.NOT_EMPTY,
}
_STATES = {
    KazooState.CONNECTED: SessionState.CONNECTED,
    KazooState.SUSPENDED: SessionState.SUSPENDED,
    KazooState.LOST: SessionState.LOST,
}


class CannotConnect(Disconnected):
    """No server could be reached in time."""


class NoTree(PvcError):
    """The servers answer, but the cluster's tree has not been made."""


class WrongSchema(PvcError):
    """The tree was made by another version of pvc, or by something else."""


class TreeExists(PvcError):
    """There is something at the root already; nothing was changed."""


def connect(settings: ZooKeeperSettings, *, runtime: Runtime, name: str, log: logging.Logger) -> "ZooKeeperCoordinator":
    """A session with the cluster's tree; `name` says in log lines whose it is.

    Raises CannotConnect, NoTree, WrongSchema, or CoordinationError if the credentials are not accepted.
    """
    coordinator = _open(settings, settings.root, runtime=runtime, name=name, log=log)
    try:
        _demand_schema(coordinator.get("/"), settings)
    except BaseException:
        coordinator.close()
        raise
    return coordinator


def initialise(
    settings: ZooKeeperSettings, ops: Sequence[Op], *, runtime: Runtime, name: str, log: logging.Logger
) -> None:
    """Make the root with its schema version and do `ops` (paths relative to it), all in one transaction.

    A root that exists but is empty is filled. Raises TreeExists if it holds anything, CannotConnect, CoordinationError.
    """
    root = "/" + settings.root.strip("/")
    coordinator = _open(settings, "", runtime=runtime, name=name, log=log)
    try:
        for end in (place for place, letter in enumerate(root) if letter == "/" and place > 0):
            _create_if_missing(coordinator, root[:end])
        inside = [replace(op, path=root + op.path) for op in ops]
        coordinator.commit([_claim(coordinator, root), *inside])
    except Conflict as conflict:
        if conflict.op.path != root:
            raise
        raise _tree_exists(root) from conflict
    finally:
        coordinator.close()


class ZooKeeperCoordinator:
    """The real `Coordinator`. Made by `connect`, which waits for the session; not by its constructor."""

    def __init__(self, client: Any, runtime: Runtime, patience: float, name: str, log: logging.Logger) -> None:
        self.reached = runtime.signal()
        """Set each time a server has been reached."""
        self._client = client
        self._patience = patience
        self._name = name
        self._log = log
        self._state = SessionState.SUSPENDED
        self._session_id = 0
        self._listeners: list[Callable[[SessionState], None]] = []
        self._lock = runtime.mutex()
        """Held when a request is handed to kazoo and when the state changes: so nothing that was asked for in one
        session is carried out in the next, which kazoo, keeping a queue while it reconnects, does not promise."""
        client.add_listener(self._kazoo_changed)

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def session_id(self) -> int:
        return self._session_id

    def listen(self, listener: Callable[[SessionState], None]) -> None:
        self._listeners.append(listener)

    def get(self, path: str, watch: Watch | None = None) -> Znode | None:
        armed = _once(watch)
        return self._read(path, armed, self._send_get(path, armed))

    def children(self, path: str, watch: Watch | None = None) -> tuple[str, ...] | None:
        armed = _once(watch)
        return self._read_children(path, armed, self._send_children(path, armed))

    def get_many(self, paths: Sequence[str], watches: Sequence[Watch] = ()) -> list[Znode | None]:
        armed = [_once(watch) for watch in watches] or [None] * len(paths)
        asked = list(zip(paths, armed, strict=True))
        znodes: list[Znode | None] = []
        for start in range(0, len(asked), PIPELINE):
            window = [(path, once, self._send_get(path, once)) for path, once in asked[start : start + PIPELINE]]
            znodes += [self._read(path, once, pending) for path, once, pending in window]
        return znodes

    def look(
        self, nodes: Sequence[str], folders: Sequence[str]
    ) -> tuple[list[Znode | None], list[tuple[str, ...] | None]]:
        asked = [(path, self._send_get(path, None)) for path in nodes]
        listed = [(path, self._send_children(path, None)) for path in folders]
        znodes = [self._read(path, None, pending) for path, pending in asked]
        return znodes, [self._read_children(path, None, pending) for path, pending in listed]

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        refuse_too_large(ops)
        if not ops:
            return ()
        transaction = self._client.transaction()
        for op in ops:
            _add(transaction, op)
        results: list[Any] = self._ask(transaction.commit_async)
        _refuse_errors(ops, results)
        return tuple(result for op, result in zip(ops, results, strict=True) if isinstance(op, Create))

    def close(self) -> None:
        self._enter(SessionState.CLOSED)
        self._client.remove_listener(self._kazoo_changed)
        try:
            self._client.stop()
            self._client.close()
        except WriterNotClosedException:
            # Its thread is still trying to reach a server that does not answer; it ends by itself at the next turn.
            self._log.warning("%s: the connection to ZooKeeper takes long to close", self._name)

    def _send(self, request: Callable[[], Any]) -> Any:
        with self._lock:
            if self._state is not SessionState.CONNECTED:
                raise Disconnected(
                    f"{self._name}: the session with ZooKeeper is {self._state.value}; check that its servers run"
                )
            return request()

    def _ask(self, request: Callable[[], Any]) -> Any:
        return self._wait(self._send(request))

    def _wait(self, pending: Any) -> Any:
        try:
            return pending.get(timeout=self._patience)
        except NoNodeError:
            raise
        except _OUTCOME_UNKNOWN as error:
            raise Disconnected(
                f"{self._name}: no answer from ZooKeeper ({type(error).__name__}); check that its servers run"
            ) from error
        except KazooException as error:
            raise _refused(error) from error

    def _send_get(self, path: str, armed: "_Once | None") -> Any:
        return self._send(lambda: self._client.get_async(path, watch=armed))

    def _read(self, path: str, armed: "_Once | None", pending: Any) -> Znode | None:
        """The answer to `_send_get`; one that there is nothing has left no watch."""
        while True:
            try:
                data, stat = self._wait(pending)
            except NoNodeError:
                if self._stays_missing(path, armed):
                    return None
                pending = self._send_get(path, armed)
            else:
                return _znode(data, stat)

    def _send_children(self, path: str, armed: "_Once | None") -> Any:
        return self._send(lambda: self._client.get_children_async(path, watch=armed))

    def _read_children(self, path: str, armed: "_Once | None", pending: Any) -> tuple[str, ...] | None:
        """The answer to `_send_children`; one that there is nothing has left no watch."""
        while True:
            try:
                names: list[str] = self._wait(pending)
            except NoNodeError:
                if self._stays_missing(path, armed):
                    return None
                pending = self._send_children(path, armed)
            else:
                return tuple(sorted(names))

    def _stays_missing(self, path: str, armed: "_Once | None") -> bool:
        """Leave a watch for the creation of a node; False if it was created in between."""
        return armed is None or self._ask(lambda: self._client.exists_async(path, watch=armed)) is None

    def _kazoo_changed(self, kazoo_state: str) -> None:
        self._enter(_STATES[kazoo_state])

    def _enter(self, state: SessionState) -> None:
        with self._lock:
            old = self._state
            if old in (state, SessionState.CLOSED):
                return
            self._state = state
            if state is SessionState.CONNECTED:
                self._session_id = self._client.client_id[0]
            elif state is not SessionState.SUSPENDED:
                self._session_id = 0
        quiet = state in (SessionState.CONNECTED, SessionState.CLOSED)
        level = logging.INFO if quiet else logging.WARNING
        self._log.log(level, "ZooKeeper session of %s: %s => %s", self._name, old.value, state.value)
        for listener in self._listeners:
            listener(state)
        if state is SessionState.CONNECTED:
            self.reached.set()


class _Once:
    """A watch as kazoo wants it. It calls at most once although it may have been left twice, on data and existence."""

    def __init__(self, watch: Watch) -> None:
        self._watch: Watch | None = watch

    def __call__(self, event: object) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch()


def _once(watch: Watch | None) -> _Once | None:
    return None if watch is None else _Once(watch)


def _znode(data: bytes, stat: Any) -> Znode:
    assert isinstance(stat, ZnodeStat)
    return Znode(
        data=data,
        version=stat.version,
        created=stat.ctime / 1000,
        modified=stat.mtime / 1000,
        owner=stat.ephemeralOwner,
        created_zxid=stat.czxid,
    )


def _add(transaction: Any, op: Op) -> None:
    if isinstance(op, Create):
        transaction.create(op.path, op.data, ephemeral=op.ephemeral, sequence=op.sequence)
    elif isinstance(op, Put):
        transaction.set_data(op.path, op.data, op.version)
    elif isinstance(op, Delete):
        transaction.delete(op.path, op.version)
    else:
        assert isinstance(op, Check)
        transaction.check(op.path, op.version)


def _refuse_errors(ops: Sequence[Op], results: Sequence[Any]) -> None:
    """Raise for the operation that failed. kazoo puts errors into the results; the others only say "not done"."""
    errors = [(op, result) for op, result in zip(ops, results, strict=True) if isinstance(result, Exception)]
    for op, error in errors:
        if clash := _CLASHES.get(type(error)):
            raise Conflict(op, clash)
        if not isinstance(error, RolledBackError | RuntimeInconsistency):
            raise _refused(error, op) from error
    if errors:
        raise _refused(errors[0][1], errors[0][0]) from errors[0][1]


def _refused(error: Exception, op: Op | None = None) -> CoordinationError:
    what = "" if op is None else f" {type(op).__name__.lower()} {op.path}"
    if isinstance(error, NoAuthError):
        advice = "this user may not; check zookeeper.user and zookeeper.password_file"
    else:
        advice = f"{type(error).__name__} {error}".strip() + "; the log of the ZooKeeper servers may say more"
    return CoordinationError(f"ZooKeeper refused{what}: {advice}")


def _open(
    settings: ZooKeeperSettings, root: str, *, runtime: Runtime, name: str, log: logging.Logger
) -> ZooKeeperCoordinator:
    client = _client(settings, root, log)
    coordinator = ZooKeeperCoordinator(client, runtime, settings.session_timeout, name, log)
    try:
        client.start_async()
        if coordinator.reached.wait(settings.connect_timeout):
            return coordinator
    except BaseException:
        coordinator.close()
        raise
    coordinator.close()
    raise CannotConnect(
        f"no ZooKeeper server answered within {settings.connect_timeout:g} s (tried {', '.join(settings.hosts)});"
        " check zookeeper.hosts, and that the servers run and can be reached from here"
    )


def _client(settings: ZooKeeperSettings, root: str, log: logging.Logger) -> Any:
    credentials = _credentials(settings)
    chroot = root.strip("/")
    # kazoo warns of each attempt and each change of state; the changes are logged here, once.
    kazoo_log = log.getChild("kazoo")
    kazoo_log.setLevel(logging.ERROR)
    handler = SequentialThreadingHandler()
    try:
        return KazooClient(
            hosts=",".join(settings.hosts) + (f"/{chroot}" if chroot else ""),
            timeout=settings.session_timeout,
            handler=handler,
            default_acl=CREATOR_ALL_ACL if credentials else None,
            auth_data=[credentials] if credentials else None,
            connection_retry=KazooRetry(
                max_tries=-1, delay=0.1, max_delay=_longest_pause(settings), sleep_func=handler.sleep_func
            ),
            logger=kazoo_log,
        )
    except ValueError as error:
        raise CannotConnect(
            f"zookeeper.hosts is not a list of host:port: {', '.join(settings.hosts)} ({error}); correct it in pvc.yaml"
        ) from error


def _longest_pause(settings: ZooKeeperSettings) -> float:
    """Short beside the session: when servers come back they count its time anew, and it must be there well before."""
    return min(LONGEST_PAUSE, settings.session_timeout / 4)


def _credentials(settings: ZooKeeperSettings) -> tuple[str, str] | None:
    if settings.user is None:
        return None
    if settings.secret is None:
        raise PvcError("zookeeper.user is set but zookeeper.password_file is not; set both or none")
    try:
        return ("digest", f"{settings.user}:{settings.secret.read()}")
    except SecretProblem as problem:
        key = "password" if settings.password_file is None else "password_file"
        raise PvcError(f"zookeeper.{key}: {problem}") from problem


def _demand_schema(root: Znode | None, settings: ZooKeeperSettings) -> None:
    if root is None or not root.data:
        raise NoTree(f"there is no cluster at {settings.root} on {', '.join(settings.hosts)}; run `pvc init` once")
    found = _schema(root.data)
    if found != SCHEMA:
        raise WrongSchema(
            f"the cluster at {settings.root} has schema {found}, this pvc knows {SCHEMA};"
            " install the same version of pvc on all nodes, or correct zookeeper.root"
        )


def _schema(data: bytes) -> object:
    try:
        value = json.loads(data)
    except ValueError:
        return "none"
    return value.get("schema", "none") if isinstance(value, dict) else "none"


def _claim(coordinator: ZooKeeperCoordinator, root: str) -> Op:
    """The operation that makes the root ours: create it, or fill it if it is there and empty."""
    data = json.dumps({"schema": SCHEMA}).encode()
    present = coordinator.get(root)
    if present is None:
        return Create(root, data)
    if present.data or coordinator.children(root):
        raise _tree_exists(root)
    return Put(root, data, present.version)


def _tree_exists(root: str) -> TreeExists:
    return TreeExists(
        f"there is something at {root} already, nothing was changed; use the cluster that is there,"
        " or choose another zookeeper.root"
    )


def _create_if_missing(coordinator: ZooKeeperCoordinator, path: str) -> None:
    try:
        coordinator.commit([Create(path)])
    except Conflict as conflict:
        if conflict.clash is not Clash.EXISTS:
            raise
