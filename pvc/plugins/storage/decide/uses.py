"""Which volumes of the cluster a VM has: pool and name of each."""

from collections.abc import Iterable
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

VOLUME = "volume:"
"""Before POOL/VOLUME, among what a VM needs of this role."""


def named_in(xml: str) -> frozenset[tuple[str, str]]:
    """Those that a libvirt definition names; none if it cannot be read."""
    if "pool=" not in xml:  # nothing to parse: listings ask this of every VM
        return frozenset()
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return frozenset()
    sources = root.findall("devices/disk[@type='volume']/source[@pool][@volume]")
    return frozenset((source.get("pool", "").strip(), source.get("volume", "").strip()) for source in sources)


def needed_in(needs: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Those among what a VM needs of this role."""
    named = (need.removeprefix(VOLUME).partition("/") for need in needs if need.startswith(VOLUME))
    return frozenset((pool, volume) for pool, _, volume in named)
