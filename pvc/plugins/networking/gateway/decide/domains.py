"""Names in DNS: the domain of a network, and which names of VMs can stand in it."""

import re

from pvc.plugins.networking.records import Network

LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""One part of a name of a host (RFC 1123), in lower case."""
LONGEST = 253
"""Characters of a whole name (RFC 1035)."""
LONGEST_LABEL = 63
PRIVATE = "internal"
"""The top-level domain that nobody else will ever have (ICANN, 2024)."""


def domain_of(network: Network) -> str:
    """The domain of the names of a managed network's VMs."""
    return network.domain or f"{network.name}.{PRIVATE}"


def label_of(vm: str) -> str:
    """The name of a VM as a label of DNS, which knows no upper case; empty: it can be none, and has no name there."""
    return vm.lower() if LABEL.fullmatch(vm.lower()) else ""


def why_no_domain(text: str) -> str:
    """Why that cannot be the domain of a network; empty: it can."""
    labels = text.split(".")
    if not all(LABEL.fullmatch(label) for label in labels):
        return f"{text!r} is no domain: use lower-case letters, digits and '-' between dots, as lan.example.org"
    if labels[-1].isdigit():
        return f"{text!r} looks like an address: a domain does not end with a number"
    if len(text) > LONGEST - LONGEST_LABEL - 1:
        return f"a domain of {len(text)} characters leaves no room for names in it: use {LONGEST - LONGEST_LABEL - 1}"
    return ""
