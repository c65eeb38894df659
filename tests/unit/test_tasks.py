"""Background tasks: none fails in silence, none is left behind, after-hooks are bounded."""

import asyncio
from functools import partial

from structlog.testing import capture_logs

from snackbase.app.tasks import BEGUN_A_TURN, WAITING_BYTES, AfterHooks, Tasks, probe_lag, write_now_and_then
from snackbase.errors import Unavailable
from snackbase.metrics import Counters


async def test_what_a_task_raises_is_logged_with_its_name() -> None:
    tasks = Tasks()

    async def fails() -> None:
        raise LookupError("a bug")

    with capture_logs() as lines:
        task = tasks.spawn(fails(), name="head-poll")
        await asyncio.wait({task})
        await asyncio.sleep(0)

    assert [(line["event"], line["task"]) for line in lines] == [("task_failed", "head-poll")]
    assert len(tasks) == 0


async def test_cancelling_ends_every_task_before_it_returns() -> None:
    tasks, ended = Tasks(), []

    async def waits(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    for name in "ab":
        tasks.spawn(waits(name), name=name)
    await asyncio.sleep(0)
    with capture_logs() as lines:
        await tasks.cancel()

    assert (sorted(ended), lines) == (["a", "b"], [])


async def test_after_hooks_that_are_too_many_are_dropped_counted_and_told_once() -> None:
    counters, gate, ran = Counters(), asyncio.Event(), []
    later = AfterHooks(counters, running=2, waiting=3)

    async def work() -> None:
        await gate.wait()
        ran.append(1)

    with capture_logs() as lines:
        for _ in range(8):
            later(work)
    gate.set()
    await later.finish(30)

    assert (len(ran), counters.hooks_dropped) == (5, 3)
    assert [line["event"] for line in lines] == ["after_hooks_dropped"]


async def test_after_hooks_begin_in_their_order_a_few_in_each_turn_of_the_loop() -> None:
    later, began, waves = AfterHooks(Counters()), [], []

    async def work(number: int) -> None:
        began.append(number)

    for number in range(100):
        later(partial(work, number))
    while len(began) < 100:
        before = len(began)
        await asyncio.sleep(0)
        waves.append(len(began) - before)
    await later.finish(30)

    assert began == list(range(100))
    assert max(waves) <= 2 * BEGUN_A_TURN


async def test_a_stop_lets_after_hooks_end_but_not_for_ever() -> None:
    later, ended = AfterHooks(Counters()), []

    async def quick() -> None:
        await asyncio.sleep(0)
        ended.append("quick")

    async def endless() -> None:
        await asyncio.Event().wait()

    later(quick)
    later(endless)
    await later.finish(0.05)

    assert ended == ["quick"]


async def test_after_hooks_that_keep_too_many_bytes_are_dropped_too() -> None:
    counters, gate = Counters(), asyncio.Event()
    later = AfterHooks(counters, running=1)

    async def work() -> None:
        await gate.wait()

    with capture_logs():
        for _ in range(5):
            later(work, WAITING_BYTES // 2)
    gate.set()
    await later.finish(30)
    assert counters.hooks_dropped == 2
    later(work, 2 * WAITING_BYTES)
    await later.finish(30)

    assert counters.hooks_dropped == 2, "one alone is never too large"


async def test_after_hooks_that_a_stop_does_not_wait_for_are_counted_as_dropped() -> None:
    counters = Counters()
    later = AfterHooks(counters, running=1, waiting=5)

    async def endless() -> None:
        await asyncio.Event().wait()

    for _ in range(4):
        later(endless)
    with capture_logs() as lines:
        await later.finish(0.05)

    assert counters.hooks_dropped == 3
    assert [line["event"] for line in lines] == ["after_hooks_dropped"]


async def test_the_lag_probe_observes_every_pause() -> None:
    counters = Counters()
    probe = asyncio.create_task(probe_lag(counters.loop_lag))
    while not sum(counters.loop_lag.counts):  # noqa: ASYNC110  # plain numbers tell nobody when they change
        await asyncio.sleep(0.05)
    probe.cancel()

    assert counters.loop_lag.total >= 0


async def test_what_is_written_now_and_then_is_tried_again_when_it_failed() -> None:
    tries = 0
    twice = asyncio.Event()

    async def write() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Unavailable("The disk is full.", code="disk_full")
        twice.set()

    tasks = Tasks()
    with capture_logs() as lines:
        tasks.spawn(write_now_and_then(write, every_s=0), name="writing")
        await twice.wait()
        await tasks.cancel()

    assert [(line["event"], line["code"]) for line in lines] == [("periodic_write_failed", "disk_full")]
