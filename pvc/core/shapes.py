"""What each hook's answer has to look like: core checks it while it still can tell whose answer it is."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

import msgspec

from pvc.core.context import Verdict
from pvc.core.model import Finding, NodeFacts
from pvc.core.storage import HypervisorSecret

LONGEST_FACT = 1000
"""Characters of one fact under a key of a plugin's own: facts are read by every node."""


class WrongShape(TypeError):
    """An answer is not of the kind that its hook asks for."""


def shaped(hook: str, answer: Any) -> Any:
    """The answer as core goes on with it. Raises WrongShape."""
    return _SHAPES[hook](answer) if hook in _SHAPES else answer


def facts(answer: Any) -> dict[str, Any]:
    """Facts of a node: fields of NodeFacts with the types they have there, text under other keys. Raises WrongShape."""
    return {name: _fact(name, value) for name, value in _mapping(str)(answer).items()}


def _fact(name: str, value: Any) -> Any:
    if name not in _FACTS:
        text = str(value)
        return text if len(text) <= LONGEST_FACT else text[: LONGEST_FACT - 1] + "…"
    try:
        return msgspec.convert(msgspec.to_builtins(value), _FACTS[name])
    except (msgspec.MsgspecError, TypeError) as error:
        raise WrongShape(f"the fact {name}: {error}") from error


def _list(kind: type[Any], *parts: str) -> Callable[[Any], list[Any]]:
    """A list whose entries are of that kind and have those parts."""

    def check(answer: Any) -> list[Any]:
        if not isinstance(answer, Iterable) or isinstance(answer, str | bytes | Mapping):
            raise WrongShape(f"a list is wanted, not {type(answer).__name__}")
        entries: list[Any] = list(answer)
        for entry in entries:
            if not isinstance(entry, kind):
                raise WrongShape(f"{kind.__name__} is wanted in the list, not {type(entry).__name__}")
            if missing := [part for part in parts if not hasattr(entry, part)]:
                raise WrongShape(f"{type(entry).__name__} in the list lacks {', '.join(missing)}")
            if "name" in parts and not isinstance(entry.name, str):
                raise WrongShape(f"the name of {type(entry).__name__} in the list is not text")
        return entries

    return check


def _mapping(keys: type, values: type = object) -> Callable[[Any], dict[Any, Any]]:
    def check(answer: Any) -> dict[Any, Any]:
        if not isinstance(answer, Mapping):
            raise WrongShape(f"a mapping is wanted, not {type(answer).__name__}")
        for key, value in answer.items():
            if not isinstance(key, keys) or not isinstance(value, values):
                raise WrongShape(f"a mapping of {keys.__name__} to {values.__name__} is wanted, not {key!r}: {value!r}")
        return dict(answer)

    return check


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise WrongShape(f"text is wanted, not {type(answer).__name__}")
    return answer


_SHAPES: Mapping[str, Callable[[Any], Any]] = {
    "pvc_config_schema": _mapping(str),
    "pvc_services": _list(object, "name", "after", "wake", "step", "stop"),
    "pvc_flush_gates": _list(object, "name", "exclusive", "enter", "foresee", "guard", "leave"),
    "pvc_flush_steps": _list(object, "name", "after", "vacate", "restore", "foresee"),
    "pvc_vm_observers": _list(object, "vm_changed"),
    "pvc_vm_definition": _text,
    "pvc_vm_needs": _list(str),
    "pvc_placement": _mapping(str, Verdict),
    "pvc_node_facts": facts,
    "pvc_health": _list(Finding),
    "pvc_console_sinks": _list(object, "name", "write", "close"),
    "pvc_storage_backends": _mapping(str),
    "pvc_hypervisor_secrets": _list(HypervisorSecret),
}
_FACTS = {name: kind for name, kind in get_type_hints(NodeFacts).items() if name not in ("at", "findings", "extra")}
