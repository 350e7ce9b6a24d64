"""Which bridges a definition uses, what is wrong with a node's, and whether a node's will do for a VM."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.core.model import Finding, Severity
from pvc.plugins.networking.schema import SECTION


def bridges_of(xml: str) -> tuple[str, ...]:
    """The bridges that a libvirt definition plugs its interfaces into; none if it cannot be read."""
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return ()
    sources = root.findall("devices/interface[@type='bridge']/source[@bridge]")
    return tuple(sorted({name for source in sources if (name := source.get("bridge", "").strip())}))


def lacking(expected: Sequence[str], seen: Mapping[str, bool]) -> tuple[str, ...]:
    """Those of the expected bridges that are missing or down."""
    return tuple(name for name in expected if not seen.get(name, False))


def findings(expected: Sequence[str], seen: Mapping[str, bool]) -> list[Finding]:
    """One for each expected bridge that is missing or down, with what to do."""
    return [Finding(SECTION, Severity.CRITICAL, _complaint(name, seen)) for name in lacking(expected, seen)]


def _complaint(name: str, seen: Mapping[str, bool]) -> str:
    if name in seen:
        return f"bridge {name} is down: no VM that uses it comes here; switch it on with `ip link set {name} up`"
    return (
        f"bridge {name} does not exist: no VM that uses it comes here; add it to the host's network configuration, "
        f"or take it out of {SECTION}.bridges"
    )


def why_not(needed: Sequence[str], published: str | None) -> str:
    """Why a node that publishes these bridges cannot run a VM that needs those; empty: it can."""
    if not needed:
        return ""
    if published is None:
        return "has not published its bridges"
    missing = [name for name in needed if name not in published.split()]
    return f"has no bridge {' and no bridge '.join(missing)} that is up" if missing else ""
