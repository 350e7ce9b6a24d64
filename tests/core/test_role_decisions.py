"""What plugins demand of each other, and which roles a node may not give up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.core.decide.roles import Clash, Resident, clashes, described, in_use, refusal
from pvc.core.declaration import Declaration
from pvc.core.model import RolesChanged

WEB = Resident("web", {"networking": ("br0",)})
DB = Resident("db", {})
LOST = Resident("0000-1", {}, readable=False)


@pytest.mark.parametrize(
    ("why", "on", "found"),
    [
        ("nothing is on", {}, []),
        ("what is needed is on", {"a": Declaration(needs=("b",)), "b": Declaration()}, []),
        ("what is needed is off", {"a": Declaration(needs=("b",))}, [Clash("a", "b", True)]),
        ("the same need twice", {"a": Declaration(needs=("b", "b"))}, [Clash("a", "b", True)]),
        ("what it cannot bear is off", {"a": Declaration(conflicts=("b",))}, []),
        (
            "what it cannot bear is on",
            {"b": Declaration(), "a": Declaration(conflicts=("b",))},
            [Clash("a", "b", False)],
        ),
        (
            "both say so: one clash",
            {"a": Declaration(conflicts=("b",)), "b": Declaration(conflicts=("a",))},
            [Clash("a", "b", False)],
        ),
        ("it bears itself", {"a": Declaration(needs=("a",), conflicts=("a",))}, []),
    ],
)
def test_clashes(why: str, on: dict[str, Declaration], found: list[Clash]) -> None:
    assert clashes(on) == found


names = st.sampled_from("abcd")
declarations = st.builds(
    lambda needs, conflicts: Declaration(needs=tuple(needs), conflicts=tuple(conflicts)),
    st.lists(names),
    st.lists(names),
)


@given(st.dictionaries(names, declarations))
def test_without_the_plugins_that_clash_nothing_new_clashes_but_needs(on: dict[str, Declaration]) -> None:
    against = {clash.plugin for clash in clashes(on)}
    rest = {name: declaration for name, declaration in on.items() if name not in against}
    assert all(clash.needed and clash.other in against for clash in clashes(rest))


@pytest.mark.parametrize(
    ("why", "dropped", "residents", "found"),
    [
        ("no VM is there", ["hypervisor", "networking"], [], {}),
        ("every VM needs a hypervisor", ["hypervisor"], [WEB, DB], {"hypervisor": ("web", "db")}),
        ("one needs the role", ["networking"], [WEB, DB], {"networking": ("web (br0)",)}),
        ("none needs the role", ["storage"], [WEB, DB], {}),
        ("what cannot be read may need anything", ["storage"], [DB, LOST], {"storage": ("0000-1",)}),
        ("several", ["networking", "hypervisor"], [WEB], {"networking": ("web (br0)",), "hypervisor": ("web",)}),
    ],
)
def test_roles_in_use(
    why: str, dropped: list[str], residents: list[Resident], found: dict[str, tuple[str, ...]]
) -> None:
    assert in_use(dropped, residents) == found


def test_the_refusal_names_vms_and_what_to_do() -> None:
    text = refusal("hv1", {"networking": ["web (br0)"], "hypervisor": ["web", "db"]})
    assert "networking is needed by web (br0); hypervisor is needed by web, db" in text
    assert "Nothing was changed" in text
    assert "Set roles.networking and roles.hypervisor to true again" in text
    assert "pvc node flush hv1 --wait" in text


def test_a_change_of_roles_is_described() -> None:
    assert (
        described(RolesChanged(("hypervisor",), ("hypervisor", "storage"), 1.0)) == "hypervisor => hypervisor, storage"
    )
    assert described(RolesChanged((), ("storage",), 1.0)) == "none => storage"
