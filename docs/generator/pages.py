"""The pages that are made from the source, as Markdown."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from types import ModuleType

from generator import source, surroundings
from generator.commands import Parameter, commands, daemon
from pvc.cli import exits
from pvc.core import keys as core_keys
from pvc.core import pvcd
from pvc.core.config.markdown import tables

NOTICE = "Made by `python docs/generate.py` from {origin}. Change that, not this page."

VALUES: Mapping[str, tuple[str, str]] = {
    "/nodes/<name>": ("pvc.core.model", "Node"),
    "/nodes/<name>/session": ("pvc.core.model", "NodeSession"),
    "/nodes/<name>/facts": ("pvc.core.model", "NodeFacts"),
    "/nodes/<name>/operation": ("pvc.core.model", "Operation"),
    "/nodes/<name>/plugins": ("pvc.core.pluginreports", "PluginReports"),
    "/nodes/<name>/forecast": ("pvc.core.forecasting", "Question"),
    "/nodes/<name>/vms": ("pvc.plugins.hypervisor.records", "Promises"),
    "/nodes/<name>/vms/<uuid>": ("pvc.plugins.hypervisor.records", "MoveReport"),
    "/vms/<uuid>": ("pvc.core.model", "Vm"),
    "/vms/<uuid>/actual": ("pvc.core.model", "VmActual"),
    "/vms/<uuid>/doubt": ("pvc.core.model", "VmDoubt"),
    "/history/operation-": ("pvc.core.model", "Operation"),
    "/roll": ("pvc.core.rolls", "Roll"),
    "/roll/driver": ("pvc.core.rolls", "Driver"),
    "/locks/flush/<name>": ("pvc.plugins.flushlock.decide.queue", "Ticket"),
    "/vms/<uuid>/console": ("pvc.plugins.consolelog.ring", "Header"),
    "/networks/<name>": ("pvc.plugins.networking.records", "Network"),
    "/networks/<name>/ports/<node>": ("pvc.plugins.networking.records", "Ports"),
    "/networks/<name>/traffic/<node>": ("pvc.plugins.networking.records", "Traffic"),
    "/networks/<name>/gateway": ("pvc.plugins.networking.records", "Gateway"),
    "/networks/<name>/gateway/ready": ("pvc.plugins.networking.records", "Ready"),
    "/networks/<name>/leases/<mac>": ("pvc.plugins.networking.records", "Lease"),
    "/storage/pools/<name>": ("pvc.core.storage", "Pool"),
    "/storage/pools/<pool_name>/volumes/<name>": ("pvc.plugins.storage.records", "Volume"),
    "/storage/noout": ("pvc.plugins.storage.ceph.noout", "Noout"),
    "/storage/tasks/<id>": ("pvc.plugins.storage.records", "Task"),
    "/storage/asked/<node>": ("pvc.plugins.storage.records", "Task"),
    "/storage/ended/<id>": ("pvc.plugins.storage.records", "Task"),
    "/nodes/<name>/trace": ("pvc.plugins.networking.trace.records", "Inquiry"),
    "/networks/<network>/acl": ("pvc.plugins.networking.firewall.rules", "Acl"),
}
"""The record in each node of the tree that holds one: its module and class."""

REMARKS: Mapping[str, str] = {
    "/nodes/<name>/vms": "or empty",
    "/nodes/<name>/vms/<uuid>": "or empty",
    "/vms": "empty; its version counts",
    "/vms/<uuid>/xml": "XML as defined",
    "/names/<vm_name>": "a UUID",
    "/history/operation-": "the name ends with a number",
    "/networks": "empty; its version counts",
    "/networks/<name>/ports": "empty",
    "/networks/<name>/traffic": "empty",
    "/networks/<name>/gateway/ticket": "empty, ephemeral",
    "/networks/<name>/leases": "empty",
    "/storage": "empty",
    "/storage/pools": "empty",
    "/storage/asked": "empty",
    "/storage/ended": "empty",
    "/storage/tasks": "empty; who asks about OSDs or flags rewrites it",
    "/storage/pools/<name>/volumes": "empty; its version counts",
    "/storage/tasks/<id>/ticket": "empty, ephemeral",
    "/vms/<uuid>/console/<number>": "for each chunk one line of JSON, then the VM's bytes",
}
"""What else there is to say of a value."""

PARTS: Sequence[tuple[str, str]] = (
    ("pvc.plugins.networking.records", "NetworkKind"),
    ("pvc.plugins.storage.records", "VolumeState"),
    ("pvc.plugins.storage.records", "Snapshot"),
    ("pvc.plugins.storage.records", "TaskKind"),
    ("pvc.plugins.storage.records", "TaskPhase"),
    ("pvc.core.model", "NodeState"),
    ("pvc.core.model", "Finding"),
    ("pvc.core.model", "Severity"),
    ("pvc.core.model", "OperationKind"),
    ("pvc.core.model", "Phase"),
    ("pvc.core.model", "Cancel"),
    ("pvc.core.model", "Outcome"),
    ("pvc.core.model", "OutcomeState"),
    ("pvc.core.model", "VmState"),
    ("pvc.core.model", "Policy"),
    ("pvc.core.model", "DeviceChange"),
    ("pvc.core.model", "DeviceStep"),
    ("pvc.core.model", "ActualState"),
    ("pvc.core.forecast", "Forecast"),
    ("pvc.core.forecast", "Prospect"),
    ("pvc.core.forecast", "Objection"),
    ("pvc.core.rolls", "RollNode"),
    ("pvc.core.rolls", "RollOptions"),
    ("pvc.core.rolls", "RollState"),
    ("pvc.plugins.hypervisor.records", "Promise"),
    ("pvc.plugins.consolelog.ring", "FileMark"),
    *(("pvc.plugins.networking.trace.records", name) for name in ("Answer", "PortSeen", "NetworkSeen")),
    *(("pvc.plugins.networking.firewall.rules", name) for name in ("Side", "Rule", "Action", "Protocol", "PortRange")),
)
"""What the fields of those records consist of."""

HOOK_MODULES = (
    "pvc.core.declaration",
    "pvc.core.context",
    "pvc.core.service",
    "pvc.core.turns",
    "pvc.core.forecast",
    "pvc.core.observers",
    "pvc.core.sinks",
    "pvc.core.storage",
    "pvc.core.commands",
    "pvc.core.coordination",
    "pvc.core.runtime",
)
"""Where the types in the hooks' signatures are, besides the records."""


def pages() -> dict[str, str]:
    """Every page, by its path below docs."""
    makers: dict[str, Callable[[], Iterator[str]]] = {
        "reference/configuration.md": _configuration,
        "reference/commands.md": _commands,
        "reference/exit-codes.md": _exit_codes,
        "reference/environment.md": _environment,
        "reference/tree.md": _tree,
        "reference/hooks.md": _hooks,
        "decisions/index.md": _decisions,
    }
    return {name: "\n".join(make()).rstrip("\n") + "\n" for name, make in makers.items()}


def _opening(title: str, origin: str, *lines: str) -> Iterator[str]:
    yield from (f"# {title}", "", *lines, "", NOTICE.format(origin=origin), "")


def _configuration() -> Iterator[str]:
    yield from _opening(
        "Configuration keys",
        "the schemas",
        "Every key of `pvc.yaml`. Each may be left out. The section of a plugin is read only if the plugin is on.",
        "`pvc.yaml.example` shows all of it in its place; `pvc config check` checks a file, `pvc config show` prints",
        "what is in force. For a key marked *per VM* one VM can have",
        "[a value of its own](../admin/vms.md#settings-of-one-vm). A change of a key marked *live* is applied by",
        "[a reload](../configuration.md#reload) of pvcd; for any other it has to be restarted.",
    )
    yield from tables(source.settings())


def _commands() -> Iterator[str]:
    yield from _opening(
        "Commands",
        "the commands themselves",
        "Every command and option of `pvc` and `pvcd`. Each takes `-h`. What `pvc` itself takes stands before the",
        "command.",
    )
    for command in (*commands(), daemon()):
        depth = max(len(command.path.split()), 2)
        yield from (f"{'#' * depth} {command.path}", "", *_paragraphs(command.help))
        yield from ("```text", command.usage, "```", "")
        yield from _parameters("argument", command.arguments)
        yield from _parameters("option", command.options)


def _parameters(kind: str, parameters: Sequence[Parameter]) -> Iterator[str]:
    if parameters:
        yield from (f"| {kind} | meaning |", "|---|---|")
        yield from (f"| {_names(each)} | {cell(each.help)} |" for each in parameters)
        yield ""


def _names(parameter: Parameter) -> str:
    value = f" {parameter.value}" if parameter.value else ""
    return ", ".join(code(f"{name}{value if name == parameter.names[-1] else ''}") for name in parameter.names)


def _exit_codes() -> Iterator[str]:
    yield from _opening("Exit codes", "`pvc/cli/exits.py` and `pvc/core/pvcd.py`", "What the programs end with.")
    for program, module in programs().items():
        yield from (f"## {program}", "", "| code | name | meaning |", "|---|---|---|")
        for name, (code, doc) in source.exit_codes(module).items():
            yield f"| {code} | `{name}` | {cell(doc)} |"
        yield ""


def programs() -> dict[str, ModuleType]:
    """The module that holds each program's exit codes."""
    return {"pvc": exits, "pvcd": pvcd}


def _environment() -> Iterator[str]:
    yield from _opening(
        "Environment and files",
        "`docs/generator/surroundings.py`",
        "What the programs read besides their options and the configuration, and what they set for others.",
    )
    yield from ("## Variables", "", "| variable | who | meaning |", "|---|---|---|")
    for name, (who, meaning) in {**surroundings.ENVIRONMENT, **surroundings.ALIEN_ENVIRONMENT}.items():
        yield f"| `{name}` | {who} | {cell(meaning)} |"
    yield from ("", "## Files", "", "| file | what it is |", "|---|---|")
    for name, meaning in surroundings.FILES.items():
        yield f"| `{name}` | {cell(meaning)} |"


def _tree() -> Iterator[str]:
    yield from _opening(
        "The ZooKeeper tree",
        "the modules of keys and the records",
        f'Everything is below `zookeeper.root` (`/pvc`), whose own data is `{{"schema": {core_keys.SCHEMA}}}`. Values',
        "are JSON. What is wanted, what is actual and who may write which is told in",
        "[the architecture](../architecture.md#the-tree).",
    )
    yield from ("## Paths", "", "| path | owner | what it is | value |", "|---|---|---|---|")
    for path, owner, doc in source.paths():
        yield f"| `{path}` | {owner} | {cell(doc)} | {_value(path)} |"
    yield from ("", "## Records", "", "A field with a default may be missing. Unknown fields are ignored.", "")
    for module, name in dict.fromkeys((*VALUES.values(), *PARTS)):
        yield from _class(source.class_of(module, name))


def _value(path: str) -> str:
    record = f"[{VALUES[path][1]}](#{VALUES[path][1].lower()})" if path in VALUES else ""
    return ", ".join(part for part in (record, REMARKS.get(path, "")) if part)


def _hooks() -> Iterator[str]:
    yield from _opening(
        "Hooks",
        "`pvc/core/hookspecs.py` and the modules of the types",
        "The signature of every hook, and the types in them. How to use them is told in",
        "[Writing a plugin](../plugins.md); the records of nodes, VMs and operations are described with",
        "[the tree](tree.md#records).",
    )
    for hook in source.hooks():
        yield from (f"## {hook.name}", "", "```text", f"{hook.name}{hook.signature}", "```", "", *_paragraphs(hook.doc))
    yield from ("## Types", "")
    for module in HOOK_MODULES:
        for found in source.classes(module):
            yield from _class(found)


def _decisions() -> Iterator[str]:
    yield from _opening(
        "Decisions", "the headings of the records", "Why things are as they are: one record for each choice."
    )
    for path in sorted((source.ROOT / "docs" / "decisions").glob("0*.md")):
        heading = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        yield f"- [{heading}]({path.name})"


def _class(found: source.ClassFacts) -> Iterator[str]:
    yield from (f"### {found.name}", "", f"`{found.module}`", "", *_paragraphs(found.doc))
    if found.members:
        yield from ("| member | meaning |", "|---|---|")
        yield from (f"| {code(each.text)} | {cell(each.doc)} |" for each in found.members)
        yield ""


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, text.split("\n\n")):
        yield from (_html(" ".join(paragraph.split())), "")


def cell(value: str) -> str:
    """Text that fits into one cell of a table."""
    parts = _html(" ".join(value.split())).split("`")
    return "".join(part.replace("|", "\\|") if index % 2 == 0 else code(part) for index, part in enumerate(parts))


def _html(text: str) -> str:
    """The text with `<` shown and not obeyed, outside of code."""
    parts = text.split("`")
    return "`".join(part.replace("<", "&lt;") if index % 2 == 0 else part for index, part in enumerate(parts))


def code(text: str) -> str:
    """Code in one cell of a table. A `|` in backquotes is shown rightly by some renderers of Markdown only."""
    flat = " ".join(text.split())
    return f"<code>{escape(flat, quote=False).replace('|', '&#124;')}</code>" if "|" in flat else f"`{flat}`"
