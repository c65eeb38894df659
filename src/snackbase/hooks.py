"""The developer's own code, called at the events of contract §9: `Hooks` is `app.hook`.

Promises: callbacks run by priority (higher first), each by the parameters it declares; what a callback raises, how long
it takes and whether it ever comes back concerns nobody but the caller that asked it for permission. Knows nothing of
records or connections: callers fire events with values by name. Step 3 of the path of a write (before) and after it.
"""

import asyncio
import inspect
import re
import types
from collections.abc import Callable, Coroutine, Generator, Mapping
from time import monotonic
from typing import Any, Protocol, TypeVar

import structlog

from snackbase.errors import SnackBaseError
from snackbase.metrics import Counters, add
from snackbase.workers import Workers

log = structlog.get_logger("snackbase.hooks")

F = TypeVar("F", bound=Callable[..., Any])


class Later(Protocol):
    """Runs the hooks of what has happened, behind it (app.tasks)."""

    def __call__(self, work: Callable[[], Coroutine[Any, Any, None]], size: int = 0) -> None:
        """`size`: bytes that `work` keeps while it waits."""
        ...


BLOCKED_AFTER_S = 0.1
"""A step of an async hook that keeps the event loop longer than this is named in the log."""
MAX_STUCK = 100
"""Runs of one callback that were cut and still have not ended; above it is not called any more."""
QUEUED_CALLS_PER_THREAD = 16
WAITED_FOR_PER_THREAD = BEHIND_PER_THREAD = 2
"""Of these the calls that a client waits for, and those behind what has happened: enough to keep the threads busy, and
a write's hook is soon served after them."""

_CONNECTION = ("connection_id", "user_id", "account_id", "transport")
_SUBSCRIPTION = (*_CONNECTION, "collection", "operations", "filter")
_RECORD = ("record", "data", "collection", "context")
_COLLECTION = ("collection", "data", "context")
_AUTH = ("user_id", "account_id", "email")

EVENTS: Mapping[str, tuple[str, ...]] = {
    "on_realtime_connect": _CONNECTION,
    "on_realtime_disconnect": (*_CONNECTION, "code", "reason"),
    "on_realtime_subscribe": _SUBSCRIPTION,
    "on_realtime_unsubscribe": _SUBSCRIPTION,
    "on_realtime_message": (*_CONNECTION, "message"),
    "on_record_before_create": _RECORD,
    "on_record_after_create": _RECORD,
    "on_record_before_update": _RECORD,
    "on_record_after_update": _RECORD,
    "on_record_before_delete": _RECORD,
    "on_record_after_delete": _RECORD,
    "on_collection_before_create": _COLLECTION,
    "on_collection_after_create": _COLLECTION,
    "on_collection_before_update": _COLLECTION,
    "on_collection_after_update": _COLLECTION,
    "on_collection_before_delete": _COLLECTION,
    "on_collection_after_delete": _COLLECTION,
    "on_auth_login": _AUTH,
    "on_auth_register": _AUTH,
    "on_bootstrap": ("app",),
    "on_serve": ("app",),
    "on_terminate": ("app",),
}
"""Event -> the names of the values a callback may declare."""

LIFECYCLE = frozenset({"on_bootstrap", "on_serve", "on_terminate"})

_WORD = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")


class HookAbort(SnackBaseError):
    """Raised by a hook to refuse what is about to happen.

    Args:
        message: shown to the client as it is.
        code: a snake_case word for programs; an int (400-499) sets the HTTP status instead.
        status: the HTTP status over REST.
    """

    code, status, title = "refused_by_hook", 403, "Refused"

    def __init__(self, message: str, code: str | int = "refused_by_hook", *, status: int = 403) -> None:
        word = code if isinstance(code, str) else "refused_by_hook"
        status = code if isinstance(code, int) else status
        if _WORD.match(word) is None:
            raise ValueError(f"HookAbort: code has to be a snake_case word, not {code!r}")
        if not 400 <= status <= 499:
            raise ValueError(f"HookAbort: status has to be 400 to 499, not {status}")
        super().__init__(message, code=word)
        self.status = status


class Hooks:
    """Registration by decorators, calls by `fire`.

    Used before `configure` it works with the default time limit and counts into counters of its own.
    """

    def __init__(self, *, timeout_s: float = 5, threads: int = 8, counters: Counters | None = None) -> None:
        self._callbacks: dict[str, list[_Callback]] = {event: [] for event in EVENTS}
        self.configure(timeout_s=timeout_s, threads=threads, counters=counters or Counters())

    def configure(self, *, timeout_s: float, threads: int, counters: Counters) -> None:
        """Apply the settings; before the first `fire`."""
        self._timeout_s = timeout_s
        self._counters = counters
        self._workers = Workers(threads, queued=threads * QUEUED_CALLS_PER_THREAD, name="snackbase-hook")
        # Two: a thousand after-hooks that are slow must not hold up who connects.
        self._waited_for = asyncio.Semaphore(threads * WAITED_FOR_PER_THREAD)
        self._behind = asyncio.Semaphore(threads * BEHIND_PER_THREAD)

    def close(self) -> None:
        """Let the worker threads end; after the last `fire`."""
        self._workers.close()

    def has(self, event: str, collection: str | None = None) -> bool:
        """Whether `fire` would call anything; cheap, so that callers skip the work of preparing values.

        Without `collection`: for any collection at all.
        """
        callbacks = self._callbacks[event]
        if not callbacks or collection is None:
            return bool(callbacks)
        return any(callback.collection in (None, collection) for callback in callbacks)

    async def fire(self, event: str, *, collection: str | None = None, refusing: bool, **values: Any) -> None:
        """Call what is registered for `event`, one after the other.

        Args:
            event: a key of EVENTS.
            collection: the collection's name; selects the callbacks and is the value of that name.
            refusing: whether a HookAbort may stop what is about to happen.
            values: what callbacks may declare; a name without a value is given as None.

        Raises:
            HookAbort: a callback refused; only when `refusing`.
            SnackBaseError: `hook_failed`: a before_* callback failed or was cut, so nothing may be written.
        """
        values["collection"] = collection
        for callback in tuple(self._callbacks[event]):
            if callback.collection in (None, collection):
                await self._call(callback, values, refusing)

    async def _call(self, callback: "_Callback", values: Mapping[str, Any], refusing: bool) -> None:
        counters, event = self._counters, callback.event
        add(counters.hook_calls, event)
        try:
            if callback.hurried:
                await self._run(callback, callback.arguments(values))
            else:
                await self._run_in_turn(callback, callback.arguments(values), refusing)
        except HookAbort as refusal:
            if refusing:
                raise
            log.warning("hook_cannot_refuse", hook=callback.name, event_name=event, reason=refusal.message)
            self._failed(callback)
        except TimeoutError:
            add(counters.hook_timeouts, event)
            log.error("hook_timeout", hook=callback.name, event_name=event, timeout_s=self._timeout_s)
            self._failed(callback)
        except (Exception, SystemExit) as error:
            log.error("hook_failed", hook=callback.name, event_name=event, exc_info=error)
            self._failed(callback)

    def _failed(self, callback: "_Callback") -> None:
        add(self._counters.hook_failures, callback.event)
        if "_before_" in callback.event:
            # A before hook may be what enforces a rule of the application: without its word nothing is written.
            raise SnackBaseError(f"The hook {callback.name} failed; nothing was written.", code="hook_failed")

    async def _run_in_turn(self, callback: "_Callback", arguments: Mapping[str, Any], waited_for: bool) -> None:
        """One call when there is room for it: of a thousand clients that come or go at once, none is left out.

        Raises:
            TimeoutError: a client waits for it, and has waited for as long as a call may take.
        """
        room = self._waited_for if waited_for else self._behind
        if room.locked():
            async with asyncio.timeout(self._timeout_s if waited_for else None):
                await room.acquire()
        else:
            await room.acquire()
        try:
            await self._run(callback, arguments)
        finally:
            room.release()

    async def _run(self, callback: "_Callback", arguments: Mapping[str, Any]) -> None:
        """One call within the time limit. A call that is cut is left behind, never waited for."""
        if callback.stuck >= MAX_STUCK:
            raise RuntimeError(f"{callback.stuck} earlier calls of this hook never ended; it is not called any more")
        task = asyncio.create_task(self._guarded(callback, arguments), name=callback.name)
        try:
            await asyncio.wait((task,), timeout=self._timeout_s)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            callback.stuck += 1
            task.add_done_callback(callback.came_back)
            raise TimeoutError
        if task.cancelled():
            raise RuntimeError("the hook cancelled itself")
        if (error := task.result()) is not None:
            raise error

    async def _guarded(self, callback: "_Callback", arguments: Mapping[str, Any]) -> BaseException | None:
        """Run the callback; what it raises is returned, since SystemExit in a task would end the event loop."""
        steps = _Steps()
        try:
            result = callback.function(**arguments) if callback.is_async else await self._in_thread(callback, arguments)
            if inspect.iscoroutine(result):
                await steps.of(result)
            elif inspect.isawaitable(result):
                await result
        except (Exception, SystemExit) as error:
            return error
        finally:
            if steps.longest_s > BLOCKED_AFTER_S:
                log.warning(
                    "hook_blocks_event_loop",
                    hook=callback.name,
                    event_name=callback.event,
                    blocked_ms=round(steps.longest_s * 1000),
                    hint="declare it with def instead of async def, then it runs in a worker thread",
                )
        return None

    async def _in_thread(self, callback: "_Callback", arguments: Mapping[str, Any]) -> object:
        return await self._workers.run(lambda: callback.function(**arguments))

    def _register(self, event: str, priority: int, collection: str | None = None) -> Callable[[F], F]:
        if any(map(callable, (collection, priority))):
            raise TypeError(f"write @app.hook.{event}() with parentheses")

        def register(function: F) -> F:
            callbacks = self._callbacks[event]
            callbacks.append(_Callback(event, function, collection, priority))
            callbacks.sort(key=lambda callback: -callback.priority)  # stable: equal priorities keep their order
            return function

        return register

    def on_realtime_connect(self, priority: int = 0) -> Callable[[F], F]:
        """A client connects: connection_id, user_id, account_id, transport. May refuse."""
        return self._register("on_realtime_connect", priority)

    def on_realtime_disconnect(self, priority: int = 0) -> Callable[[F], F]:
        """A connection has ended: as connect, and code, reason."""
        return self._register("on_realtime_disconnect", priority)

    def on_realtime_subscribe(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A client subscribes: as connect, and collection, operations, filter. May refuse."""
        return self._register("on_realtime_subscribe", priority, collection)

    def on_realtime_unsubscribe(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A client unsubscribes: as subscribe."""
        return self._register("on_realtime_unsubscribe", priority, collection)

    def on_realtime_message(self, priority: int = 0) -> Callable[[F], F]:
        """A WebSocket client sent a message: as connect, and message. May refuse."""
        return self._register("on_realtime_message", priority)

    def on_record_before_create(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A record is about to be created: record, data, collection, context. May refuse and change data."""
        return self._register("on_record_before_create", priority, collection)

    def on_record_after_create(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A record was created and committed: record, data, collection, context."""
        return self._register("on_record_after_create", priority, collection)

    def on_record_before_update(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A record is about to change: record, data (the changed fields), collection, context. May refuse."""
        return self._register("on_record_before_update", priority, collection)

    def on_record_after_update(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A record's change was committed: record, data, collection, context."""
        return self._register("on_record_after_update", priority, collection)

    def on_record_before_delete(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A record is about to be deleted: record, collection, context. May refuse."""
        return self._register("on_record_before_delete", priority, collection)

    def on_record_after_delete(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A record's deletion was committed: record (its last state), collection, context."""
        return self._register("on_record_after_delete", priority, collection)

    def on_collection_before_create(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A collection is about to be made: collection (its name), data, context. May refuse."""
        return self._register("on_collection_before_create", priority, collection)

    def on_collection_after_create(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A collection was made: collection, data, context."""
        return self._register("on_collection_after_create", priority, collection)

    def on_collection_before_update(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A collection's fields or rules are about to change: collection, data, context. May refuse."""
        return self._register("on_collection_before_update", priority, collection)

    def on_collection_after_update(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A collection was changed: collection, data, context."""
        return self._register("on_collection_after_update", priority, collection)

    def on_collection_before_delete(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A collection and its records are about to be deleted: collection, context. May refuse."""
        return self._register("on_collection_before_delete", priority, collection)

    def on_collection_after_delete(self, collection: str | None = None, priority: int = 0) -> Callable[[F], F]:
        """A collection was deleted: collection, context."""
        return self._register("on_collection_after_delete", priority, collection)

    def on_auth_login(self, priority: int = 0) -> Callable[[F], F]:
        """A user has logged in: user_id, account_id, email."""
        return self._register("on_auth_login", priority)

    def on_auth_register(self, priority: int = 0) -> Callable[[F], F]:
        """A user has registered: user_id, account_id, email."""
        return self._register("on_auth_register", priority)

    def on_bootstrap(self, priority: int = 0) -> Callable[[F], F]:
        """The store is open and the catalog loaded, nothing is served yet: app."""
        return self._register("on_bootstrap", priority)

    def on_serve(self, priority: int = 0) -> Callable[[F], F]:
        """Requests are answered from now on: app."""
        return self._register("on_serve", priority)

    def on_terminate(self, priority: int = 0) -> Callable[[F], F]:
        """The server is stopping; connections are closed, the store is still open: app."""
        return self._register("on_terminate", priority)


class _Callback:
    """One registered function: when it applies and what it wants to be given."""

    __slots__ = (
        "collection",
        "event",
        "function",
        "hurried",
        "is_async",
        "name",
        "priority",
        "stuck",
        "takes_all",
        "wanted",
    )

    def __init__(self, event: str, function: Callable[..., Any], collection: str | None, priority: int) -> None:
        self.event = event
        self.function = function
        self.collection = collection
        self.priority = priority
        self.name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"
        self.stuck = 0
        called = getattr(function, "__call__", None)  # noqa: B004  # of an object: may be async itself
        self.is_async = any(map(inspect.iscoroutinefunction, (function, called)))
        # An async one needs no thread. Of a write's there may be any number: too many are told so at once. And nothing
        # stands in the way of a start or a stop.
        self.hurried = self.is_async or "_before_" in event or event in LIFECYCLE
        self.takes_all = False
        self.wanted = tuple(self._declared())

    def _declared(self) -> Generator[str, None, None]:
        valid = EVENTS[self.event]
        for parameter in inspect.signature(self.function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                self.takes_all = True
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise TypeError(f"{self.event}: {self.name} is called by name, so {parameter} cannot be filled")
            elif parameter.name in valid:
                yield parameter.name
            elif parameter.default is parameter.empty:
                known = ", ".join(valid)
                raise TypeError(f"{self.event}: {self.name} declares {parameter.name!r}; there are: {known}")

    def arguments(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        names = EVENTS[self.event] if self.takes_all else self.wanted
        return {name: values.get(name) for name in names}

    def came_back(self, task: "asyncio.Task[BaseException | None]") -> None:
        self.stuck -= 1
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as lost


class _Steps:
    """Measures how long a coroutine keeps the event loop between two of its awaits."""

    longest_s = 0.0

    @types.coroutine
    def of(self, coroutine: Coroutine[Any, Any, object]) -> Generator[Any, Any, None]:
        step: Callable[[Any], Any] = coroutine.send
        argument: Any = None
        while True:
            started = monotonic()
            try:
                waiting_for = step(argument)
            except StopIteration:
                return
            finally:
                self.longest_s = max(self.longest_s, monotonic() - started)
            try:
                argument, step = (yield waiting_for), coroutine.send
            except BaseException as error:  # a cancellation goes into the hook like anything else
                argument, step = error, coroutine.throw
