"""Which volumes of the cluster a definition names."""

from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring


def named_in(xml: str) -> frozenset[tuple[str, str]]:
    """Pool and name of each volume that a libvirt definition uses; none if it cannot be read."""
    if "pool=" not in xml:  # nothing to parse: listings ask this of every VM
        return frozenset()
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return frozenset()
    sources = root.findall("devices/disk[@type='volume']/source[@pool][@volume]")
    return frozenset((source.get("pool", "").strip(), source.get("volume", "").strip()) for source in sources)
