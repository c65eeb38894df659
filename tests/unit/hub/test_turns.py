"""A few at a time: the order is kept, everybody's turn comes, and who comes alone does not wait."""

import asyncio

import pytest

from snackbase.hub.turns import Turns


async def test_who_comes_alone_goes_on_at_once() -> None:
    turns = Turns(1)

    for _ in range(3):
        assert turns.free()
        await asyncio.sleep(0)


async def test_of_many_only_so_many_go_on_in_one_turn_of_the_loop_and_in_their_order() -> None:
    turns, order, waves = Turns(4), [], []

    async def come(number: int) -> None:
        await turns.take()
        order.append(number)

    tasks = [asyncio.create_task(come(number)) for number in range(10)]
    while len(order) < 10:
        before = len(order)
        await asyncio.sleep(0)
        waves.append(len(order) - before)
    await asyncio.gather(*tasks)

    assert order == list(range(10))
    assert max(waves) == 4


async def test_nobody_overtakes_those_who_wait() -> None:
    turns = Turns(1)
    assert turns.free()
    called: list[str] = []
    turns.later(lambda: called.append("waited"))

    assert not turns.free()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert called == ["waited"]


async def test_who_gave_up_holds_up_nobody() -> None:
    turns = Turns(1)
    going, giving_up, waiting = (asyncio.create_task(turns.take()) for _ in range(3))
    await going
    giving_up.cancel()

    await asyncio.wait_for(waiting, 10)
    with pytest.raises(asyncio.CancelledError):
        await giving_up
