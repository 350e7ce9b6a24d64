"""What nodes publish, put together for the placement of one VM."""

from collections.abc import Mapping, Sequence

from pvc.core.context import Verdict
from pvc.core.lookup import read_facts
from pvc.core.mirror import Mirror
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide import attachment, bridges


def verdicts(mirror: Mirror, needs: Sequence[str], nodes: Sequence[str]) -> Mapping[str, Verdict]:
    """A veto for each node that lacks a bridge or network the VM needs. Raises Disconnected."""
    networks = attachment.needed_networks(needs)
    plain = [need for need in needs if not need.startswith(attachment.PREFIX)]
    if networks and (why := attachment.unknown(networks, mirror.children(keys.NETWORKS) or ())):
        return {node: Verdict(why, everywhere=True) for node in nodes}
    found: dict[str, str] = {}
    for node in nodes:
        facts = read_facts(mirror, node)
        whys = (
            bridges.why_not(plain, facts.extra.get(keys.UP)),
            attachment.why_not(networks, attachment.published_in(facts)),
        )
        found[node] = " and ".join(why for why in whys if why)
    return {node: Verdict(why) for node, why in found.items() if why}
