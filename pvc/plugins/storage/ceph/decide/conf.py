"""What Ceph's own configuration says to its clients: where the monitors are, which key a client has."""

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

KEYRINGS = "/etc/ceph/$cluster.$name.keyring,/etc/ceph/$cluster.keyring,/etc/ceph/keyring,/etc/ceph/keyring.bin"
"""Where a client's key is unless the configuration says otherwise (option `keyring` of Ceph)."""

Sections = Mapping[str, Mapping[str, str]]
"""Options by section; names of options with `_` between words."""

_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^\[\]:]+)(?::(?P<port>\d+))?(?:/\d+)?")
_VECTOR = re.compile(r"\[((?:any|v1|v2):[^\s,]+(?:,(?:any|v1|v2):[^\s,]+)*)\]")


@dataclass(frozen=True, slots=True)
class Monitor:
    """Where a monitor listens."""

    host: str
    """A name or an address; IPv6 without brackets."""
    port: int | None = None
    """None: where monitors listen by default."""


def sections_of(text: str) -> Sections:
    """The sections of a ceph.conf, or of a keyring, which is written the same way."""
    found: dict[str, dict[str, str]] = {}
    options: dict[str, str] = {}
    for raw in text.replace("\\\n", "").splitlines():
        line = re.split(r"(?<!\\)[#;]", raw, maxsplit=1)[0].strip()
        if line.startswith("[") and line.endswith("]"):
            options = found.setdefault(line[1:-1].strip(), {})
        elif "=" in line:
            name, _, value = line.partition("=")
            options["_".join(re.split(r"[\s_-]+", name.strip()))] = _unquoted(value.strip())
    return found


def option(sections: Sections, user: str, name: str) -> str | None:
    """An option as it is for a client; `user`: without `client.`."""
    for section in (f"client.{user}", "client", "global"):
        if name in sections.get(section, {}):
            return sections[section][name]
    return None


def cluster_of(conf: str) -> str:
    """The name of the cluster, which is the name of its configuration file, as Ceph's programs take it."""
    name, dot, _ = conf.rpartition("/")[2].partition(".conf")
    return name if dot and name else "ceph"


def keyrings_of(sections: Sections, user: str, cluster: str) -> Sequence[str]:
    """The files in which the key of a client may be, first those that Ceph looks into first."""
    told = option(sections, user, "keyring") or KEYRINGS
    values = {"cluster": cluster, "name": f"client.{user}", "type": "client", "id": user}
    for name, value in values.items():
        told = re.sub(rf"\$(?:{name}\b|\{{{name}\}})", value, told)
    return [path for path in re.split(r"[,;\s]+", told) if path]


def key_in(keyring: str, user: str) -> bytes | None:
    """The key of a client in the text of a keyring, decoded; None: it is not there, or is no key."""
    text = sections_of(keyring).get(f"client.{user}", {}).get("key", "")
    try:
        return base64.b64decode(text, validate=True) or None
    except binascii.Error:
        return None


def monitors_of(text: str) -> Sequence[Monitor]:
    """The monitors that a value of `mon host` names; of the two addresses of one the older protocol's, which all
    clients of RBD are told a port of.

    Empty if it is not understood.
    """
    vectors = [_chosen(vector.split(",")) for vector in _VECTOR.findall(text)]
    rest = [
        _monitor(word.split(":", 1)[-1] if word.startswith(("v1:", "v2:", "any:")) else word)
        for word in re.split(r"[,;\s]+", _VECTOR.sub(" ", text))
        if word
    ]
    found = [*vectors, *rest]
    return () if None in found else tuple(dict.fromkeys(monitor for monitor in found if monitor))


def _chosen(addresses: Sequence[str]) -> Monitor | None:
    by_protocol = {address.partition(":")[0]: address.partition(":")[2] for address in addresses}
    chosen = by_protocol.get("v1") or by_protocol.get("any") or by_protocol["v2"]
    return _monitor(chosen)


def _monitor(text: str) -> Monitor | None:
    try:
        return Monitor(str(ipaddress.IPv6Address(text)))
    except ValueError:
        pass
    matched = _PORT.fullmatch(text)
    if matched is None:
        return None
    port = int(matched["port"]) if matched["port"] else None
    return Monitor(matched["host"].strip("[]"), port or None)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value
