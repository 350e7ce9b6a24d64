"""For how long something has been so."""

from pvc.plugins.hypervisor.spells import Spells
from pvc.testing.runtime import World


def test_a_spell_lasts_from_its_first_sight_and_ends_with_what_it_was_of() -> None:
    world = World()
    spells = Spells(world.process("hv1"))
    assert spells.lasting("a") == 0.0
    world.run_for(5)
    assert (spells.lasting("a"), spells.lasting("b")) == (5.0, 0.0)
    assert "a" in spells
    assert spells.lasting("a", False) == 0.0
    assert "a" not in spells
    world.run_for(1)
    assert (spells.lasting("a"), spells.lasting("b")) == (0.0, 1.0)
    spells.end("b")
    assert "b" not in spells


def test_something_else_begins_anew() -> None:
    world = World()
    spells = Spells(world.process("hv1"))
    spells.lasting("a", "one order")
    world.run_for(5)
    assert spells.lasting("a", "one order") == 5.0
    assert spells.lasting("a", "another order") == 0.0
    assert spells.lasting("a", None) == 0.0
