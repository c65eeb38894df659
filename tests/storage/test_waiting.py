"""The queue before the writer: fair, bounded, never waiting to fill a group."""

import threading

import pytest

from snackbase.errors import Unavailable
from snackbase.storage.group import Crowd
from snackbase.storage.waiting import Waiting


class Item:
    def __init__(self, name: str, size: int = 1) -> None:
        self.name = name
        self.size = size


def queue(*, length: int = 100, size: int = 1000, account_length: int = 50) -> Waiting[Item]:
    return Waiting(length=length, size=size, account_length=account_length)


def names(items: list[Item]) -> str:
    return " ".join(item.name for item in items)


def test_accounts_take_turns_and_each_keeps_its_order() -> None:
    waiting = queue()
    for name in ("a1", "a2", "a3", "a4", "b1", "c1", "c2"):
        waiting.put(name[0], Item(name))

    assert names(waiting.take(most=4, size=100)) == "a1 b1 c1 a2"
    waiting.put("b", Item("b2"))
    assert names(waiting.take(most=100, size=100)) == "c2 a3 b2 a4"
    assert waiting.take(most=4, size=100) == []


def test_a_group_ends_once_its_bytes_are_reached_but_holds_at_least_one() -> None:
    waiting = queue()
    for size in (10, 50, 900):
        waiting.put("a", Item(str(size), size))

    assert [names(waiting.take(most=10, size=20)) for _ in range(2)] == ["10 50", "900"]
    assert (waiting.length, waiting.size) == (0, 0)


@pytest.mark.parametrize(
    ("limits", "account"), [({"length": 3}, "z"), ({"account_length": 3}, "a"), ({"size": 30}, "z")]
)
def test_what_does_not_fit_is_refused_at_once(limits: dict[str, int], account: str) -> None:
    waiting = queue(**limits)
    for _ in range(3):
        waiting.put("a", Item("x", 10))

    with pytest.raises(Unavailable) as refused:
        waiting.put(account, Item("y", 10))

    assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 1)
    assert waiting.length == 3
    waiting.take(most=1, size=1)
    waiting.put(account, Item("y", 10))


def test_an_account_at_its_limit_leaves_room_for_others() -> None:
    waiting = queue(account_length=1)
    waiting.put("a", Item("a1"))

    with pytest.raises(Unavailable):
        waiting.put("a", Item("a2"))
    waiting.put("b", Item("b1"))

    assert names(waiting.take(most=10, size=10)) == "a1 b1"


def test_jobs_come_one_by_one_and_a_closed_queue_gives_out_the_rest() -> None:
    waiting = queue()
    ran: list[int] = []
    waiting.put_job(lambda: ran.append(1))
    waiting.put("a", Item("a1"))
    waiting.close()

    with pytest.raises(Unavailable, match="stopping"):
        waiting.put("a", Item("a2"))
    with pytest.raises(Unavailable, match="stopping"):
        waiting.put_job(lambda: None)

    assert waiting.wait(0)
    job = waiting.take_job()
    assert job is not None
    job()
    assert (ran, waiting.take_job(), waiting.finished) == ([1], None, False)
    assert names(waiting.take(most=1, size=1)) == "a1"
    assert waiting.finished


def test_waiting_for_nothing_ends_in_time() -> None:
    assert queue().wait(0) is False


def came(crowd: Crowd, count: int) -> list[bool]:
    return [crowd.came() for _ in range(count)]


def test_one_transaction_after_another_wakes_the_writer_at_once() -> None:
    crowd = Crowd()
    for _ in range(3):
        assert (crowd.several, came(crowd, 1)) == (False, [False])
        crowd.went(1)


def test_of_several_at_a_time_the_last_wakes_the_writer_once() -> None:
    crowd, woken = Crowd(), []
    came(crowd, 2)
    crowd.went(2)

    for _ in range(2):
        assert (crowd.several, came(crowd, 3)) == (True, [True, False, False])
        crowd.rouse(lambda: woken.append(1))
        assert came(crowd, 1) == [True]
        crowd.rouse(lambda: woken.append(1))
        crowd.went(0)
        crowd.went(3)
        crowd.went(1)
    assert len(woken) == 4


def test_a_crowd_that_is_gone_is_forgotten() -> None:
    crowd = Crowd()
    came(crowd, 2)
    crowd.went(1)
    crowd.went(1)
    assert crowd.several
    came(crowd, 1)
    crowd.went(1)

    assert (crowd.several, came(crowd, 1)) == (False, [False])


def test_a_writer_that_is_to_be_roused_sleeps_until_then() -> None:
    waiting = queue()
    awake = threading.Event()

    def write() -> None:
        waiting.wait()
        awake.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not waiting._sleeping:
        pass
    waiting.put("a", Item("a1"), wake=False)
    assert not awake.is_set()

    waiting.rouse()
    assert awake.wait(60)
    writer.join()


def test_a_writer_that_sleeps_for_ever_shorter_times_misses_nothing() -> None:
    waiting, taken = queue(length=100_000, size=100_000, account_length=100_000), 0

    def write() -> None:
        nonlocal taken
        number = 0
        while not waiting.finished:
            number += 1
            # Also times that end just when somebody rings.
            if waiting.wait(number % 5 * 1e-5):
                taken += len(waiting.take(most=3, size=100))

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(20_000):
        waiting.put("a", Item("a"), wake=number % 3 > 0)
        if number % 3 == 0:
            waiting.rouse()
    waiting.close()
    writer.join(60)

    assert not writer.is_alive()
    assert taken == 20_000


def test_who_is_roused_for_nothing_sleeps_on() -> None:
    waiting = queue()
    results: list[bool] = []
    writer = threading.Thread(target=lambda: results.append(waiting.wait()))
    writer.start()
    for _ in range(100):
        while not waiting._sleeping:
            pass
        waiting.rouse()
    assert results == []

    waiting.put("a", Item("a1"))
    writer.join(60)
    assert results == [True]
