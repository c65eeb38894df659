"""Hooks: who is called, with what, in which order, and how little a bad one can do (contract §9)."""

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from snackbase.errors import SnackBaseError
from snackbase.hooks import EVENTS, HookAbort, Hooks
from snackbase.metrics import Counters

SHORT_S = 0.05


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
async def hooks(counters: Counters) -> AsyncIterator[Hooks]:
    made = Hooks(timeout_s=30, threads=2, counters=counters)
    yield made
    made.close()


@pytest.fixture
def impatient(counters: Counters) -> Hooks:
    return Hooks(timeout_s=SHORT_S, threads=2, counters=counters)


def test_every_event_has_a_decorator_of_its_name_and_no_other_decorator_exists() -> None:
    decorators = {name for name, _ in inspect.getmembers(Hooks, inspect.isfunction) if name.startswith("on_")}

    assert decorators == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
async def test_every_event_reaches_its_callback_with_each_value_by_name(hooks: Hooks, event: str) -> None:
    given: dict[str, Any] = {}

    def record(**values: Any) -> None:
        given.update(values)

    getattr(hooks, event)()(record)
    values = {name: f"the {name}" for name in EVENTS[event]}
    await hooks.fire(event, refusing=False, **values)

    assert given == values


async def test_a_callback_receives_just_the_parameters_it_declares(hooks: Hooks) -> None:
    seen = []

    @hooks.on_realtime_subscribe()
    async def some(collection: str, user_id: str, note: str = "its own default") -> None:
        seen.append((collection, user_id, note))

    await hooks.fire("on_realtime_subscribe", collection="posts", refusing=True, user_id="u1", operations=["create"])

    assert seen == [("posts", "u1", "its own default")]


async def test_a_value_the_caller_does_not_have_is_none(hooks: Hooks) -> None:
    seen = []

    @hooks.on_record_before_delete()
    async def some(data: object) -> None:
        seen.append(data)

    await hooks.fire("on_record_before_delete", collection="posts", refusing=True)

    assert seen == [None]


@pytest.mark.parametrize(
    ("callback", "complaint"),
    [
        (lambda conection_id: None, "declares 'conection_id'; there are: connection_id, user_id"),
        (lambda *args: None, r"called by name, so \*args"),
        (lambda connection_id, /: None, "called by name, so connection_id"),
    ],
)
def test_a_parameter_that_cannot_be_filled_is_refused_at_registration(
    hooks: Hooks, callback: Any, complaint: str
) -> None:
    with pytest.raises(TypeError, match=complaint):
        hooks.on_realtime_connect()(callback)


def test_a_decorator_without_parentheses_is_refused_at_registration(hooks: Hooks) -> None:
    def callback() -> None: ...

    with pytest.raises(TypeError, match="on_realtime_connect\\(\\) with parentheses"):
        hooks.on_realtime_connect(callback)  # type: ignore[arg-type]  # the mistake it is about
    with pytest.raises(TypeError, match="on_record_after_create\\(\\) with parentheses"):
        hooks.on_record_after_create(callback)  # type: ignore[arg-type]  # the mistake it is about


async def test_higher_priority_runs_first_and_equal_ones_in_the_order_of_registration(hooks: Hooks) -> None:
    order: list[str] = []

    def register(name: str, priority: int) -> None:
        async def callback() -> None:
            order.append(name)

        hooks.on_record_after_update(priority=priority)(callback)

    for name, priority in [("first of 0", 0), ("10", 10), ("second of 0", 0), ("-1", -1)]:
        register(name, priority)
    await hooks.fire("on_record_after_update", collection="posts", refusing=False)

    assert order == ["10", "first of 0", "second of 0", "-1"]


async def test_a_callback_for_one_collection_is_not_called_for_another(hooks: Hooks) -> None:
    called: list[str] = []
    hooks.on_record_before_create(collection="posts")(lambda collection: called.append(f"posts: {collection}"))
    hooks.on_record_before_create()(lambda collection: called.append(f"any: {collection}"))

    await hooks.fire("on_record_before_create", collection="comments", refusing=True)
    await hooks.fire("on_record_before_create", collection="posts", refusing=True)

    assert called == ["any: comments", "posts: posts", "any: posts"]


def test_has_is_true_only_where_something_would_be_called(hooks: Hooks) -> None:
    assert not hooks.has("on_record_before_create")
    hooks.on_record_before_create(collection="posts")(lambda: None)

    assert hooks.has("on_record_before_create")
    assert hooks.has("on_record_before_create", "posts")
    assert not hooks.has("on_record_before_create", "comments")
    assert not hooks.has("on_record_after_create", "posts")


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_before_hook_can_change_data(hooks: Hooks, kind: str) -> None:
    def strip(data: dict[str, str]) -> None:
        data["title"] = data["title"].strip()

    async def strip_async(data: dict[str, str]) -> None:
        strip(data)

    hooks.on_record_before_create()(strip if kind == "sync" else strip_async)
    data = {"title": "  a  "}
    await hooks.fire("on_record_before_create", collection="posts", refusing=True, data=data)

    assert data == {"title": "a"}


async def test_a_sync_callback_does_not_run_on_the_event_loop(hooks: Hooks) -> None:
    threads: list[int] = []
    hooks.on_realtime_connect()(lambda: threads.append(threading.get_ident()))

    await hooks.fire("on_realtime_connect", refusing=True)

    assert threads != [threading.get_ident()]


async def test_an_abort_refuses_with_its_message_code_and_status_and_stops_the_others(hooks: Hooks) -> None:
    later: list[str] = []

    @hooks.on_record_before_create(priority=1)
    async def refuse() -> None:
        raise HookAbort("No more posts today.", "quota_exceeded")

    hooks.on_record_before_create()(lambda: later.append("called"))
    with pytest.raises(HookAbort) as refusal:
        await hooks.fire("on_record_before_create", collection="posts", refusing=True)

    assert (refusal.value.message, refusal.value.code, refusal.value.status) == (
        "No more posts today.",
        "quota_exceeded",
        403,
    )
    assert later == []


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [(("no",), "refused_by_hook", 403), (("no", "too_big"), "too_big", 403), (("no", 422), "refused_by_hook", 422)],
)
def test_an_abort_takes_a_word_or_a_status(arguments: tuple[Any, ...], code: str, status: int) -> None:
    abort = HookAbort(*arguments)

    assert (abort.code, abort.status) == (code, status)


@pytest.mark.parametrize("arguments", [("no", "Not A Word"), ("no", 200), ("no", 500)])
def test_an_abort_with_another_code_is_a_mistake_of_the_hook(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="HookAbort"):
        HookAbort(*arguments)


async def test_an_abort_where_nothing_can_be_refused_is_logged_and_counted(hooks: Hooks, counters: Counters) -> None:
    @hooks.on_record_after_create()
    async def too_late() -> None:
        raise HookAbort("no")

    with capture_logs() as lines:
        await hooks.fire("on_record_after_create", collection="posts", refusing=False)

    assert [line["event"] for line in lines] == ["hook_cannot_refuse"]
    assert counters.hook_failures == {"on_record_after_create": 1}


def failures() -> dict[str, Any]:
    async def raises() -> None:
        raise LookupError("a bug")

    def raises_in_thread() -> None:
        raise LookupError("a bug")

    async def exits() -> None:
        raise SystemExit(3)

    def exits_in_thread() -> None:
        raise SystemExit(3)

    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    async def needs_a_value(connection_id: str) -> None:
        connection_id.upper()

    return {
        callback.__name__: callback
        for callback in (raises, raises_in_thread, exits, exits_in_thread, cancels_itself, needs_a_value)
    }


@pytest.mark.parametrize("failure", failures())
async def test_a_hook_that_fails_is_logged_and_counted_and_the_others_run(
    hooks: Hooks, counters: Counters, failure: str
) -> None:
    later: list[str] = []
    hooks.on_realtime_connect(priority=1)(failures()[failure])
    hooks.on_realtime_connect()(lambda: later.append("called"))

    with capture_logs() as lines:
        await hooks.fire("on_realtime_connect", refusing=True)

    assert later == ["called"]
    assert [(line["event"], line["hook"].endswith(failure)) for line in lines] == [("hook_failed", True)]
    assert counters.hook_calls == {"on_realtime_connect": 2}
    assert counters.hook_failures == {"on_realtime_connect": 1}


@pytest.mark.parametrize("event", [name for name in EVENTS if "_before_" in name])
async def test_a_before_hook_that_fails_keeps_the_write_from_happening(hooks: Hooks, event: str) -> None:
    getattr(hooks, event)()(lambda: 1 / 0)

    with pytest.raises(SnackBaseError) as error, capture_logs():
        await hooks.fire(event, collection="posts", refusing=True)

    assert (error.value.code, error.value.status) == ("hook_failed", 500)
    assert "division" not in error.value.message


async def test_an_async_hook_that_waits_too_long_is_cut(impatient: Hooks, counters: Counters) -> None:
    cut = asyncio.Event()

    @impatient.on_realtime_connect()
    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    with capture_logs() as lines:
        await impatient.fire("on_realtime_connect", refusing=True)
    async with asyncio.timeout(30):
        await cut.wait()

    assert [line["event"] for line in lines] == ["hook_timeout"]
    assert counters.hook_timeouts == {"on_realtime_connect": 1}


async def test_a_hook_that_ignores_being_cut_holds_nobody_up(impatient: Hooks) -> None:
    freed = asyncio.Event()

    @impatient.on_realtime_connect()
    async def stubborn() -> None:
        while not freed.is_set():
            try:
                await freed.wait()
            except asyncio.CancelledError:
                continue

    with capture_logs() as lines:
        await impatient.fire("on_realtime_connect", refusing=True)
    freed.set()

    assert [line["event"] for line in lines] == ["hook_timeout"]


async def test_sync_hooks_that_hang_are_cut_and_never_hold_more_than_their_threads(
    impatient: Hooks, counters: Counters
) -> None:
    freed = threading.Event()
    calls: list[int] = []

    @impatient.on_realtime_connect()
    def hangs() -> None:
        calls.append(1)
        freed.wait()

    with capture_logs() as lines:
        await asyncio.gather(*(impatient.fire("on_realtime_connect", refusing=True) for _ in range(60)))
    freed.set()

    assert len(calls) <= 2
    assert counters.hook_failures == {"on_realtime_connect": 60}
    assert {line["event"] for line in lines} == {"hook_timeout"}


async def test_a_thousand_sync_calls_at_once_wait_for_a_thread_and_none_is_left_out(
    hooks: Hooks, counters: Counters
) -> None:
    calls: list[int] = []

    @hooks.on_realtime_disconnect()
    def left(code: int) -> None:
        calls.append(code)

    await asyncio.gather(*(hooks.fire("on_realtime_disconnect", refusing=False, code=one) for one in range(1000)))

    assert calls == list(range(1000))
    assert counters.hook_failures == {}


async def test_a_backlog_of_what_has_happened_holds_up_nobody_who_connects(hooks: Hooks) -> None:
    freed = threading.Event()
    hooks.on_record_after_create()(lambda: freed.wait())
    connected: list[str] = []

    @hooks.on_realtime_connect()
    def connects(user_id: str) -> None:
        connected.append(user_id)

    backlog = [asyncio.ensure_future(hooks.fire("on_record_after_create", refusing=False)) for _ in range(100)]
    connecting = asyncio.ensure_future(hooks.fire("on_realtime_connect", refusing=True, user_id="ann"))
    while not hooks._waited_for._value < 4:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0)
    # It stands behind as many calls as there may be of the others, not behind all of them.
    assert hooks._workers._jobs.qsize() <= 2 * 4
    freed.set()
    await asyncio.gather(connecting, *backlog)

    assert connected == ["ann"]


async def test_who_waits_for_a_thread_for_too_long_is_told_as_when_a_call_takes_too_long(
    impatient: Hooks, counters: Counters
) -> None:
    freed = threading.Event()
    impatient.on_realtime_connect()(lambda: freed.wait())
    with capture_logs() as lines:
        await asyncio.gather(*(impatient.fire("on_realtime_connect", refusing=True) for _ in range(100)))
    freed.set()

    assert counters.hook_failures == {"on_realtime_connect": 100}
    # Whoever had waited for all of the others would have found the threads' queue full of calls that hang.
    assert {line["event"] for line in lines} == {"hook_timeout"}


async def test_a_stop_stands_behind_no_other_hook(impatient: Hooks, counters: Counters) -> None:
    freed = threading.Event()
    impatient.on_record_after_create()(lambda: freed.wait())
    impatient.on_terminate()(lambda: None)
    with capture_logs():
        waiting = [asyncio.ensure_future(impatient.fire("on_record_after_create", refusing=False)) for _ in range(100)]
        await asyncio.sleep(0)
        await impatient.fire("on_terminate", refusing=False)
        assert sum(one.done() for one in waiting) < 50
        freed.set()
        await asyncio.gather(*waiting)


async def test_a_write_whose_sync_hook_finds_too_many_before_it_is_refused_at_once(hooks: Hooks) -> None:
    freed = threading.Event()

    @hooks.on_record_before_create()
    def slow() -> None:
        freed.wait()

    with capture_logs():
        calls = [asyncio.ensure_future(hooks.fire("on_record_before_create", refusing=True)) for _ in range(100)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        freed.set()
        await asyncio.wait(calls)

    assert all(isinstance(call.exception(), SnackBaseError) for call in done)
    assert 0 < len(done) < 100


async def test_a_hook_that_blocks_the_event_loop_is_named_in_the_log(hooks: Hooks) -> None:
    @hooks.on_record_after_create()
    async def blocks() -> None:
        await asyncio.sleep(0)
        time.sleep(0.11)  # noqa: ASYNC251  # the mistake it is about
        await asyncio.sleep(0)

    with capture_logs() as lines:
        await hooks.fire("on_record_after_create", collection="posts", refusing=False)

    assert [line["event"] for line in lines] == ["hook_blocks_event_loop"]
    assert lines[0]["hook"].endswith("blocks")
    assert lines[0]["blocked_ms"] >= 110


async def test_a_caller_that_gives_up_takes_its_hook_along(hooks: Hooks) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    @hooks.on_record_before_create()
    async def waits() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    firing = asyncio.create_task(hooks.fire("on_record_before_create", collection="posts", refusing=True))
    await started.wait()
    firing.cancel()
    async with asyncio.timeout(30):
        await ended.wait()

    with pytest.raises(asyncio.CancelledError):
        await firing


async def test_objects_partials_and_wrapped_coroutines_are_called_like_functions(hooks: Hooks) -> None:
    called: list[str] = []

    class Callable:
        async def __call__(self, user_id: str) -> None:
            called.append(f"object {user_id}")

    async def plain(user_id: str) -> None:
        called.append(f"wrapped {user_id}")

    hooks.on_realtime_connect()(Callable())
    hooks.on_realtime_connect()(lambda user_id: plain(user_id))
    await hooks.fire("on_realtime_connect", refusing=True, user_id="u1")

    assert called == ["object u1", "wrapped u1"]
