"""realtime/limits.py and realtime/timers.py: exact, because the time comes in."""

from hypothesis import given
from hypothesis import strategies as st

from snackbase.realtime.limits import Bucket, Penalties
from snackbase.realtime.timers import Wheel


def test_a_bucket_allows_the_burst_then_the_rate() -> None:
    bucket = Bucket(0.0, 3)
    assert [bucket.take(0.0, 2.0, 3) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(0.5, 2.0, 3)
    assert not bucket.take(0.5, 2.0, 3)


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(0.0, 2)
    assert [bucket.take(1000.0, 1.0, 2) for _ in range(3)] == [True, True, False]


def test_rate_zero_means_no_limit() -> None:
    bucket = Bucket(0.0, 1)
    assert all(bucket.take(0.0, 0, 1) for _ in range(100))


def test_the_first_end_for_cause_costs_nothing_and_each_further_one_doubles_the_wait() -> None:
    penalties = Penalties()
    waits = []
    for _ in range(9):
        penalties.ended("user u", 10.0)
        waits.append(penalties.wait_s("user u", 10.0))
    assert waits == [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert penalties.wait_s("user other", 10.0) == 0.0


def test_a_penalty_is_over_after_its_wait_and_forgotten_after_a_minute() -> None:
    penalties = Penalties()
    penalties.ended("a", 0.0)
    penalties.ended("a", 0.0)
    assert penalties.wait_s("a", 0.25) == 0.25
    assert penalties.wait_s("a", 0.5) == 0.0
    assert penalties.wait_s("a", 61.0) == 0.0
    penalties.ended("a", 61.0)
    assert penalties.wait_s("a", 61.0) == 0.0


def test_penalties_remember_a_bounded_number_of_keys() -> None:
    penalties = Penalties()
    for number in range(Penalties.SIZE + 10):
        penalties.ended(str(number), 0.0)
        penalties.ended(str(number), 0.0)
    assert penalties.wait_s("0", 0.0) == 0.0
    assert penalties.wait_s(str(Penalties.SIZE), 0.0) == 0.5


def test_the_wheel_wakes_an_entry_once_and_at_most_one_slot_late() -> None:
    wheel: Wheel[str] = Wheel(0.1)
    wheel.add("a", 1.0)
    assert list(wheel.due(0.99)) == []
    assert list(wheel.due(1.11)) == ["a"]
    assert list(wheel.due(5.0)) == []


def test_an_entry_for_the_past_is_woken_in_the_next_slot() -> None:
    wheel: Wheel[str] = Wheel(0.1)
    assert list(wheel.due(10.0)) == []
    wheel.add("late", 1.0)
    assert list(wheel.due(10.05)) == []
    assert list(wheel.due(10.2)) == ["late"]


@given(st.lists(st.floats(0, 100), max_size=50), st.lists(st.floats(0, 120), min_size=1, max_size=50))
def test_no_entry_is_lost_early_or_woken_twice(times: list[float], looks: list[float]) -> None:
    wheel: Wheel[int] = Wheel(0.25)
    for number, at in enumerate(times):
        wheel.add(number, at)
    woken: dict[int, float] = {}
    for now in [*sorted(looks), 200.0]:
        for number in wheel.due(now):
            assert number not in woken
            woken[number] = now
            assert now >= times[number]
    assert set(woken) == set(range(len(times)))
    assert len(wheel) == 0
