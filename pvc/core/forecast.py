"""What a flush or unflush would do: the values that its forecast consists of."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a node cannot take something, and what an administrator can do about it."""

    why: str
    advice: str = ""

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class Prospect:
    """One VM (or other thing) that an operation would handle."""

    key: str
    """A VM's UUID."""
    name: str
    policy: str
    source: str | None
    target: str | None
    """None: it would stay where it is."""
    memory: int | None = None
    """MiB."""
    free_after: int | None = None
    """MiB that the target would have left."""
    why: str = ""
    """Why it would stay, or what the operation would wait for first."""
    advice: str = ""
    """What to do about that."""
    objections: Mapping[str, Objection] = field(default_factory=dict)
    """With no target: what speaks against each node."""
    stays: bool = False
    """It would stay though it should move: the operation would end incomplete."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an operation would do, were it begun now. Nothing was changed to find out."""

    prospects: tuple[Prospect, ...] = ()
    """In the order in which they would be handled."""
    obstacles: tuple[Objection, ...] = ()
    """What else would stop it from ending done."""
    waits: tuple[str, ...] = ()
    """What it would wait for before it begins."""
    warnings: tuple[str, ...] = ()
    """What an administrator should know though it stops nothing."""

    @property
    def clear(self) -> bool:
        """Whether the operation would end done."""
        return not self.obstacles and not any(prospect.stays for prospect in self.prospects)


def joined(forecasts: "list[Forecast]") -> Forecast:
    """Several parts' forecasts as one, in their order."""
    return Forecast(
        prospects=tuple(one for forecast in forecasts for one in forecast.prospects),
        obstacles=tuple(one for forecast in forecasts for one in forecast.obstacles),
        waits=tuple(one for forecast in forecasts for one in forecast.waits),
        warnings=tuple(one for forecast in forecasts for one in forecast.warnings),
    )
