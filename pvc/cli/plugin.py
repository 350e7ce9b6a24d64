"""`pvc plugin list`."""

from importlib.metadata import EntryPoint

from pvc.cli.application import Application
from pvc.core.config.schema import ROLES
from pvc.core.config.validation import enabled_plugins
from pvc.core.plugins import installed


def add_commands(cli: Application) -> None:
    """Add to the group `plugin`."""
    group = cli.group("plugin")

    @group.command("list", listing=True)
    def list_plugins() -> None:
        """Show every plugin that is installed, and whether the configuration here switches it on."""
        points = installed()
        enabled = enabled_plugins(cli.document, sorted(points))
        hooks = {status.name: status.hooks for status in cli.plugins.status()}
        rows = [
            {
                "name": name,
                "kind": "role" if name in ROLES else "plugin",
                "enabled": name in enabled,
                "version": _version(points[name]),
                "origin": points[name].value,
                "hooks": list(hooks.get(name, ())),
            }
            for name in sorted(points)
        ]
        cli.show(rows, ("name", "kind", "enabled", "version", "origin"))


def _version(point: EntryPoint) -> str | None:
    return point.dist.version if point.dist is not None else None
