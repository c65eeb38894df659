"""Worker threads: bounded, off the event loop, and harmless when what they run fails or never ends."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar

import pytest

from snackbase.errors import Unavailable
from snackbase.workers import Workers
from tests.support.server import ROOT

WHO: ContextVar[str] = ContextVar("WHO")


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = Workers(2, queued=3, name="test")
    yield made
    made.close()


async def test_a_function_runs_in_another_thread_with_the_callers_context(workers: Workers) -> None:
    WHO.set("me")
    main = threading.get_ident()

    assert await workers.run(lambda: (WHO.get(), threading.get_ident() != main)) == ("me", True)


@pytest.mark.parametrize("error", [LookupError("a"), SystemExit(1), KeyboardInterrupt()])
async def test_what_it_raises_reaches_the_caller_and_leaves_the_thread_alive(
    workers: Workers, error: BaseException
) -> None:
    def fails() -> None:
        raise error

    for _ in range(5):
        assert await _caught(workers, fails) is error
    assert await workers.run(lambda: "alive") == "alive"


async def test_stop_iteration_does_not_hang_the_caller(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        await workers.run(lambda: next(iter(())))


async def test_more_calls_than_it_holds_are_refused_at_once(workers: Workers) -> None:
    gate = threading.Event()
    held = [asyncio.ensure_future(workers.run(gate.wait)) for _ in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refusal:
        await workers.run(lambda: None)
    gate.set()

    assert refusal.value.code == "workers_busy"
    assert await asyncio.gather(*held) == [True] * 5
    assert await workers.run(lambda: "room again") == "room again"


async def test_a_call_that_nobody_waits_for_any_more_is_not_begun(workers: Workers) -> None:
    gate, begun = threading.Event(), []
    held = [asyncio.ensure_future(workers.run(gate.wait)) for _ in range(2)]
    given_up = asyncio.ensure_future(workers.run(lambda: begun.append(1)))
    await asyncio.sleep(0)
    given_up.cancel()
    gate.set()
    await asyncio.gather(*held)
    await workers.run(lambda: None)

    assert begun == []


def test_a_thread_that_hangs_does_not_keep_the_process_from_ending() -> None:
    program = (
        "import asyncio, threading\n"
        "from snackbase.workers import Workers\n"
        "async def main():\n"
        "    hanging = asyncio.ensure_future(Workers(1, queued=1, name='w').run(threading.Event().wait))\n"
        "    await asyncio.sleep(0.05)\n"
        "    hanging.cancel()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT / "src")}, timeout=60)

    assert done.returncode == 0


async def _caught(workers: Workers, function: Callable[[], None]) -> BaseException | None:
    try:
        await workers.run(function)
    except BaseException as error:
        return error
    return None
