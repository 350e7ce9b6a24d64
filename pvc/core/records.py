"""Typed records to and from the JSON that the tree holds. Types are strict: text is not a number, 1 is not true."""

from typing import Any, TypeVar

import msgspec

from pvc.core.errors import PvcError

T = TypeVar("T")


class Garbage(PvcError):
    """A znode holds something that is not the record it should be: report it and go on without it."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} holds no valid record ({why}); look at it with zkCli.sh and repair or delete it")
        self.path = path


def encode(record: Any) -> bytes:
    """The record as JSON; fields in the order they are declared, so equal records give equal bytes."""
    return msgspec.json.encode(record)


def decode(kind: type[T], data: bytes, path: str) -> T:
    """The record that `data` holds. Unknown fields are ignored (a newer version wrote them). Raises Garbage."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: bytes that are not UTF-8
        raise Garbage(path, str(error)) from error
