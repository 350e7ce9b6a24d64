"""What is said of a lease in the place of a node that was declared dead."""

from dataclasses import replace

import pytest

from pvc.core.decide.fencing import after_cut, after_readmission, after_return
from pvc.core.model import ActualState, Fence, VmActual, VmState
from pvc.plugins.hypervisor.decide.fencing import Left, in_place_of
from pvc.plugins.hypervisor.decide.vm import Discard, Settle, Start, Wait, next_action
from tests.plugins.hypervisor.vms import ME, guest, view, vm

FENCE = Fence("f", "root@here", 1.0)
DEAD, OTHER = "hv1", "hv2"


@pytest.mark.parametrize(
    "state", [ActualState.STARTING, ActualState.RUNNING, ActualState.STOPPING, ActualState.FAILED, ActualState.STOPPED]
)
def test_what_only_the_dead_node_had_is_free(state: ActualState) -> None:
    said = in_place_of(DEAD, VmActual(state, DEAD, generation=3, restart=2, failures=4), 7.0, "dead")
    assert said == VmActual(ActualState.STOPPED, since=7.0, reason="dead", generation=3, restart=2, freed=DEAD)


def test_a_node_that_was_declared_dead_starts_nothing_whoever_has_the_lease() -> None:
    for actual in (VmActual(), VmActual(ActualState.FAILED, ME), VmActual(ActualState.STARTING, ME)):
        assert next_action(view(actual=actual)) == Start()
        assert isinstance(next_action(view(actual=actual, fenced=True)), Wait)


def test_a_node_that_is_back_ends_what_has_run_elsewhere_since_and_keeps_what_nobody_else_had() -> None:
    lives = guest()
    elsewhere = next_action(view(vm=vm(state=VmState.STOPPED), actual=VmActual(), guest=lives, fenced=True))
    assert isinstance(elsewhere, Discard), "its disks have been written to by another guest"
    kept = next_action(view(actual=VmActual(freed=ME), guest=lives, fenced=True))
    assert isinstance(kept, Settle) and kept.actual.node == ME and kept.actual.freed is None
    other = next_action(view(actual=VmActual(freed="other"), guest=lives, fenced=True))
    assert isinstance(other, Discard)


def test_what_another_node_can_tell_is_left_to_that_one() -> None:
    moving = VmActual(ActualState.MIGRATING, DEAD, OTHER)
    assert in_place_of(DEAD, moving, 7.0, "dead") == replace(moving, state=ActualState.DEPARTED, since=7.0)
    assert isinstance(in_place_of(DEAD, replace(moving, state=ActualState.DEPARTED), 7.0, ""), Left)
    assert isinstance(in_place_of(DEAD, VmActual(ActualState.MIGRATING, OTHER, DEAD), 7.0, ""), Left)


def test_what_was_handed_over_to_the_dead_node_is_free() -> None:
    said = in_place_of(DEAD, VmActual(ActualState.DEPARTED, OTHER, DEAD), 7.0, "dead")
    assert said == VmActual(since=7.0, reason="dead", freed=DEAD)


def test_what_went_astray_before_is_left_alone() -> None:
    assert isinstance(in_place_of(DEAD, VmActual(ActualState.ASTRAY, DEAD), 7.0, ""), Left)


def test_a_declaration_ends_with_the_return_or_with_the_last_pool_that_kept_the_node_out() -> None:
    assert after_return(None) is None
    assert after_return(FENCE) is None
    cut = after_cut(after_cut(after_cut(FENCE, "fast", ["a"]), "slow", ["b"]), "fast", ["a", "c"])
    assert cut.cut == {"fast": ("a", "c"), "slow": ("b",)}
    back = after_return(cut)
    assert back == replace(cut, returned=True)
    half = after_readmission(back, "fast")
    assert half == replace(back, cut={"slow": ("b",)})
    assert after_readmission(half, "slow") is None


def test_a_declaration_stands_while_the_node_is_not_back_though_no_pool_keeps_it_out() -> None:
    assert after_readmission(after_cut(FENCE, "fast", ["a"]), "fast") == FENCE
