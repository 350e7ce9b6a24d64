"""What Ceph's answers in JSON (Ceph 16) mean."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pvc.core.storage import StorageError
from pvc.plugins.storage.ceph.cluster import Check, Osd, Stoppable, Survey, Use

Answer = Mapping[str, Any]

SURVEY = ("status", "mon dump", "osd tree", "osd dump")
"""The commands whose answers make a survey; all are answered by a monitor, none by the manager daemon."""


def survey_of(answers: Iterable[Answer]) -> Survey:
    """The cluster, of the answers to SURVEY in any order. Raises StorageError if one is missing or is of no use."""
    known = list(answers)
    status, monitors = _with(known, "pgmap"), _with(known, "mons")
    tree, dump = _with(known, "nodes"), _with(known, "pools")
    try:
        groups = status["pgmap"]
        return Survey(
            health=status["health"]["status"],
            checks=_checks(status["health"]["checks"]),
            total=groups["bytes_total"],
            free=groups["bytes_avail"],
            degraded=groups.get("degraded_objects", 0),
            misplaced=groups.get("misplaced_objects", 0),
            copies=groups.get("degraded_total", groups.get("misplaced_total", 0)),
            rate=groups.get("recovering_objects_per_sec", 0),
            states={one["state_name"]: one["count"] for one in groups["pgs_by_state"]},
            monitors=tuple(one["name"] for one in monitors["mons"]),
            quorum=tuple(status["quorum_names"]),
            mgr=status["mgrmap"]["available"],
            osds=_osds(tree, dump),
            flags=frozenset(dump["flags"].split(",")),
            pools={one["pool"]: one["pool_name"] for one in dump["pools"]},
            fsid=dump["fsid"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"Ceph's answer lacks {error}; pvc knows Ceph 16 and what answers like it") from error


def usage_of(answer: Answer) -> dict[int, Use]:
    """How full each OSD is, of the answer to `osd df`."""
    return {one["id"]: Use(1024 * one["kb"], 1024 * one["kb_used"]) for one in answer["nodes"] if one["id"] >= 0}


def stoppable_of(answer: Answer, said: str) -> Stoppable:
    """The answer to `osd ok-to-stop`; `said`: what it said beside in words."""
    groups = [group for key, bad in answer.items() if key.startswith("bad_") for group in bad]
    return Stoppable(answer["ok_to_stop"], "" if answer["ok_to_stop"] else said, tuple(groups))


def why_not_destroy(answer: Answer, id: int) -> str:
    """The answer to `osd safe-to-destroy` of one OSD: why not; empty: it is safe."""
    if id in answer["safe_to_destroy"]:
        return ""
    if any(one["osd"] == id for one in answer["stored_pgs"]):
        return f"osd.{id} still holds placement groups"
    if id in answer["missing_stats"]:
        return f"osd.{id} has not told what it holds"
    return f"osd.{id} is still in use by placement groups"


def _with(answers: Sequence[Answer], key: str) -> Answer:
    for answer in answers:
        if key in answer:
            return answer
    raise StorageError(f"Ceph did not answer all that it was asked: {key} is missing; see whether `ceph status` works")


def _checks(checks: Mapping[str, Any]) -> tuple[Check, ...]:
    told = [
        Check(code, one["severity"] == "HEALTH_ERR", one["summary"]["message"], one["summary"].get("count", 0))
        for code, one in checks.items()
        if not one.get("muted")
    ]
    return tuple(sorted(told, key=lambda check: (not check.error, check.code)))


def _osds(tree: Answer, dump: Answer) -> tuple[Osd, ...]:
    hosts = {child: node["name"] for node in tree["nodes"] if node["type"] == "host" for child in node["children"]}
    nodes = {node["id"]: node for node in [*tree["nodes"], *tree.get("stray", ())] if node["type"] == "osd"}
    return tuple(
        Osd(
            id=one["osd"],
            host=hosts.get(one["osd"], ""),
            up=bool(one["up"]),
            inside=bool(one["in"]),
            kind=nodes.get(one["osd"], {}).get("device_class", ""),
            weight=round(nodes.get(one["osd"], {}).get("crush_weight", 0.0), 4),
            addresses=_addresses(one),
            uuid=one["uuid"],
        )
        for one in dump["osds"]
    )


def _addresses(osd: Answer) -> tuple[str, ...]:
    """IP addresses, without port; an OSD that never was up has none, or 0.0.0.0 and ::."""
    entries = [entry["addr"] for key in ("public_addrs", "cluster_addrs") for entry in osd[key]["addrvec"]]
    bare = [entry.rpartition(":")[0].strip("[]") for entry in entries]
    return tuple(dict.fromkeys(address for address in bare if address not in ("", "0.0.0.0", "::", "-")))
