"""What several threads use is put away when nobody uses it any more."""

import pytest

from pvc.plugins.hypervisor.lending import Lending
from pvc.testing.runtime import World


class Shelf(Lending[str]):
    """A lending of words that keeps what it has put away."""

    def __init__(self) -> None:
        self.gone: list[str] = []
        super().__init__(World().process("hv1"), self.gone.append)


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    shelf.offer("old")
    shelf.offer("new")
    return shelf


def test_what_is_retired_is_put_away_once_when_its_last_user_is_done(shelf: Shelf) -> None:
    assert shelf.lend("old") and shelf.lend("old")
    shelf.retire("old")
    shelf.clear()
    shelf.give_back("old")
    assert shelf.gone == []
    shelf.give_back("old")
    shelf.clear()
    assert shelf.gone == ["old"]


def test_what_is_retired_is_not_lent_before_or_after_it_is_put_away(shelf: Shelf) -> None:
    shelf.retire("old")
    assert not shelf.lend("old") and shelf.gone == []
    shelf.clear()
    assert not shelf.lend("old") and shelf.gone == ["old"]
    assert not shelf.lend("unknown")


def test_what_is_not_retired_stays_however_often_it_is_given_back(shelf: Shelf) -> None:
    for _ in range(2):
        assert shelf.lend("new")
        shelf.give_back("new")
    assert shelf.gone == [] and shelf.lend("new")


def test_giving_back_one_thing_puts_another_away_that_nobody_uses(shelf: Shelf) -> None:
    assert shelf.lend("new")
    shelf.retire("old")
    shelf.give_back("new")
    assert shelf.gone == ["old"]
