"""The cerberus validator of pvc, and the checks and conversions that schemas of core and plugins name.

In a schema: `coerce: mebibytes | octets | endpoint`, `check_with: name | address | absolute_path | uri_template`.
It never guesses: a number is no text, text is no boolean, and true is no number.
"""

import ipaddress
import re
from collections.abc import Mapping
from copy import deepcopy
from string import Formatter
from typing import Any, ClassVar

import cerberus
from cerberus import TypeDefinition, errors

ZOOKEEPER_PORT = 2181
LONGEST_NAME = 63
"""Characters of a node's name: the limit of a DNS label."""

NODE_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?"
SIZE = r"([0-9]{1,12}) ?([KMGT])(iB)?"
PATH = r"(/[^/\x00-\x1f\x7f]+)+"
URI = r"[a-z][a-z0-9+.-]*:[^\s\x00-\x1f\x7f]+"

_NAME = re.compile(NODE_NAME)
_HOST_NAME = re.compile(HOST_NAME)
_SIZE = re.compile(SIZE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_PATH = re.compile(PATH)
_URI = re.compile(URI)


class Rules(cerberus.Validator):  # type: ignore[misc]
    """cerberus without its surprises; docstrings of `_validate_*` methods are cerberus schemas of the rule."""

    types_mapping: ClassVar[dict[str, TypeDefinition]] = {
        **cerberus.Validator.types_mapping,
        # In cerberus a boolean passes for these two.
        "integer": TypeDefinition("integer", (int,), (bool,)),
        "float": TypeDefinition("float", (int, float), (bool,)),
    }

    def _normalize_default(self, mapping: dict[Any, Any], schema: Mapping[Any, Any], field: Any) -> None:
        """{'nullable': True}"""
        # cerberus would replace a null that somebody wrote; here it stays, and is refused if not nullable.
        if field not in mapping:
            mapping[field] = deepcopy(schema[field]["default"])

    def _validate_regex(self, pattern: str, field: Any, value: Any) -> None:
        """{'type': 'string'}"""
        # cerberus appends "$", which lets a trailing newline pass.
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            self._error(field, errors.REGEX_MISMATCH)

    def _validate_contains(self, expected_values: Any, field: Any, value: Any) -> None:
        """{'empty': False }"""
        # cerberus makes a set of the value, which fails for entries that are lists or mappings.
        expected = expected_values if isinstance(expected_values, list | tuple | set) else [expected_values]
        missing = [each for each in expected if isinstance(value, list) and each not in value]
        if missing:
            self._error(field, errors.MISSING_MEMBERS, missing)

    def _validate_check_with(self, checks: Any, field: Any, value: Any) -> None:
        """
        {'oneof': [{'type': 'callable'},
                   {'type': 'list', 'schema': {'oneof': [{'type': 'callable'}, {'type': 'string'}]}},
                   {'type': 'string'}]}
        """
        try:
            super()._validate_check_with(checks, field, value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a third party's function: without its text, which may hold the value
            self._error(
                field, f"the plugin's own check fails with {type(error).__name__}; mend or switch off the plugin"
            )

    def _normalize_coerce(self, mapping: Any, schema: Any) -> None:
        """
        {'oneof': [{'type': 'callable'},
                   {'type': 'list', 'schema': {'oneof': [{'type': 'callable'}, {'type': 'string'}]}},
                   {'type': 'string'}]}
        """
        try:
            super()._normalize_coerce(mapping, schema)
        except SystemExit as error:  # cerberus takes every Exception as a wrong value
            raise RuntimeError("a plugin's conversion of a setting ends the program") from error

    def _normalize_coerce_mebibytes(self, value: Any) -> Any:
        octets = _octets(value, plain=1 << 20)
        if octets is None:
            return value
        if octets % (1 << 20):
            raise ValueError("the size is no whole number of MiB")
        return octets >> 20

    def _normalize_coerce_octets(self, value: Any) -> Any:
        octets = _octets(value, plain=1)
        return value if octets is None else octets

    def _normalize_coerce_endpoint(self, value: Any) -> Any:
        return endpoint(value) if isinstance(value, str) else value

    def _check_with_name(self, field: Any, value: Any) -> None:
        if isinstance(value, str) and not (_NAME.fullmatch(value) and len(value) <= LONGEST_NAME):
            self._error(field, "use lower-case letters, digits and inner dashes, 63 characters at most")

    def _check_with_address(self, field: Any, value: Any) -> None:
        if isinstance(value, str) and not _is_host(value):
            self._error(field, "use an IP address or a host name, without port or brackets")

    def _check_with_absolute_path(self, field: Any, value: Any) -> None:
        if isinstance(value, str) and not is_absolute_path(value):
            self._error(field, "use an absolute path such as /var/lib/pvc, without a slash at its end")

    def _check_with_uri_template(self, field: Any, value: Any) -> None:
        placeholders = self.schema[field].get("meta", {}).get("placeholders", ("node", "address"))
        if isinstance(value, str) and (fault := _template_fault(value, placeholders)):
            self._error(field, fault)


def endpoint(text: str) -> str:
    """`host:port` of a server, with ZooKeeper's usual port if none is given; raises ValueError for anything else."""
    bracketed = re.fullmatch(r"\[([^\[\]]+)\](?::([0-9]{1,5}))?", text)
    plain = re.fullmatch(r"([^:\[\]]+)(?::([0-9]{1,5}))?", text)
    if bracketed is None and plain is None:
        raise ValueError("use host or host:port, with an IPv6 address in brackets")
    host, port = (bracketed or plain).groups()  # type: ignore[union-attr]
    if bracketed and not _is_ip(host, 6):
        raise ValueError("only an IPv6 address stands in brackets")
    if not _is_host(host):
        raise ValueError(f"{host!r} is neither an IP address nor a host name")
    number = int(port) if port else ZOOKEEPER_PORT
    if not 1 <= number <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return f"[{host}]:{number}" if bracketed else f"{host}:{number}"


def node_name(host_name: str) -> str:
    """The name a node has if none is configured: the short host name, made to fit the pattern of node names."""
    short = re.sub(r"[^a-z0-9-]", "-", host_name.partition(".")[0].lower())
    return short.strip("-")[:LONGEST_NAME].strip("-") or "localhost"


def is_absolute_path(text: str) -> bool:
    """Whether the text is a path from the root, in its simplest form: no empty, `.` or `..` parts."""
    return _PATH.fullmatch(text) is not None and not {".", ".."} & set(text.split("/"))


def _octets(value: object, plain: int) -> int | None:
    """Bytes of a size; a plain number counts in `plain` bytes; None if it is neither number nor text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value * plain
    if not isinstance(value, str):
        return None
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(
            "write a number without quotes, or a number with one of the units K, M, G, T, KiB, MiB, GiB, TiB"
        )
    return int(match[1]) * _UNITS[match[2]]


def _is_ip(text: str, version: int | None = None) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return version in (None, address.version)


def _is_host(text: str) -> bool:
    return _is_ip(text) or (_HOST_NAME.fullmatch(text) is not None and ".." not in text)


def _template_fault(text: str, placeholders: tuple[str, ...]) -> str:
    """What is wrong with a URI template; empty if nothing is."""
    if not _URI.fullmatch(text):
        return "use a URI such as qemu+tls://{address}/system"
    known = ", ".join(f"{{{name}}}" for name in placeholders)
    try:
        for _, name, form, conversion in Formatter().parse(text):
            if name is not None and (name not in placeholders or form or conversion):
                return f"known placeholders are {known}"
    except ValueError:
        return f"a brace has no partner; placeholders are {known}"
    return ""
