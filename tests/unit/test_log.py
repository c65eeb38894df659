"""Log lines: structured, one a line, and without anything that looks like a token."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from snackbase import log

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    config = structlog.get_config()
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    structlog.configure(**config)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line_holds_level_time_logger_and_what_was_given(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)
    structlog.get_logger("snackbase.http").info("request", status=200, path="/é\n")

    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "request", "level": "info", "logger": "snackbase.http", "status": 200, "path": "/é\n"}


def test_what_is_below_the_level_is_not_written(stream: io.StringIO) -> None:
    log.set_up(level="warning", format="json", stream=stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    structlog.get_logger().warning("loud")

    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_lines_of_the_standard_library_come_in_the_same_form(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)
    logging.getLogger("uvicorn.error").warning("Invalid %s", "request")

    [line] = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("Invalid request", "warning", "uvicorn.error")


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("source", ["structlog", "logging", "trace"])
def test_no_token_is_written_whoever_writes_the_line(stream: io.StringIO, format: str, source: str) -> None:
    log.set_up(level="info", format=format, stream=stream)
    if source == "structlog":
        structlog.get_logger().info("got", url=f"/ws?token={JWT}", token="opaque-one", header="Bearer opaque-two")
    elif source == "logging":
        logging.getLogger("uvicorn.error").warning('"WebSocket %s" [accepted]', f"/ws?token={JWT}&x=1")
    else:
        try:
            raise ValueError(f"cannot read {JWT}")
        except ValueError:
            structlog.get_logger().exception("failed", password="hunter22")

    text = stream.getvalue()
    assert log.MASK in text
    for secret in (JWT, JWT.split(".")[2], "opaque-one", "opaque-two", "hunter22"):
        assert secret not in text


def test_uvicorns_own_access_log_is_masked_where_it_runs_the_server(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("uvicorn.access")
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(stream)])
    monkeypatch.setattr(logger, "level", logging.INFO)
    log.mask_foreign_loggers()
    logger.info('%s - "%s %s" %d', "127.0.0.1:1", "GET", "/api/v1/realtime/subscribe?token=opaque&x=1", 200)

    assert stream.getvalue() == '127.0.0.1:1 - "GET /api/v1/realtime/subscribe?token=***&x=1" 200\n'


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_stack_trace_is_written_without_the_values_of_variables(stream: io.StringIO, format: str) -> None:
    log.set_up(level="info", format=format, stream=stream)
    confidential = "value of a " + "local variable"
    try:
        raise KeyError("missing")
    except KeyError as error:
        structlog.get_logger().error("failed", exc_info=error)

    assert "KeyError" in stream.getvalue()
    assert "test_log.py" in stream.getvalue()
    assert confidential not in stream.getvalue()


def test_a_value_from_a_client_cannot_start_a_line_of_its_own(stream: io.StringIO) -> None:
    log.set_up(level="info", format="console", stream=stream)
    structlog.get_logger().info("got", path="/a\nforged", agent="\x1b[2J", host="a\u2028b")

    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("value", ["\ud800", object(), {1: 2}, 2**200, b"bytes"])
def test_a_value_that_json_cannot_hold_does_not_lose_the_line(stream: io.StringIO, value: object) -> None:
    log.set_up(level="info", format="json", stream=stream)
    structlog.get_logger().info("got", value=value)

    assert len(lines(stream)) == 1


def test_a_closed_stream_stops_nobody() -> None:
    stream = io.StringIO()
    log.set_up(level="info", format="json", stream=stream)
    stream.close()

    structlog.get_logger().info("nobody reads this")


@pytest.mark.parametrize(
    "line",
    [
        "GET /api/v1/invitations/sb_in.abc-DEF_123/accept",
        "X-API-Key: sb_ak.550e8400-e29b-41d4-a716-446655440000.abc-DEF_123",
        "/realtime/ws?x=sb_ak.id.abc-DEF_123&y=1",
    ],
)
def test_keys_and_invitations_are_masked_wherever_they_stand(stream: io.StringIO, line: str) -> None:
    log.set_up(level="info", format="json", stream=stream)
    structlog.get_logger("x").info("request", path=line)
    logging.getLogger("foreign").warning(line)

    assert "abc-DEF_123" not in stream.getvalue()
    assert stream.getvalue().count("***") == 2


REQUEST: dict[str, Any] = {
    "method": "GET",
    "path": "/é\\",
    "status": 200,
    "duration_ms": 0.25,
    "client": "::1",
    "user_id": None,
}


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize("bound", [{"request_id": "r1"}, {"request_id": "r1", "tenant": "acme"}, {}])
def test_the_line_of_a_request_is_the_one_that_structlog_writes(
    stream: io.StringIO, format: str, bound: dict[str, str]
) -> None:
    log.set_up(level="info", format=format, stream=stream)
    with structlog.contextvars.bound_contextvars(**bound):
        log.write_request("snackbase.http", **REQUEST)
        structlog.get_logger("snackbase.http").info("request", **REQUEST)

    quick, slow = (re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "now", line) for line in stream.getvalue().splitlines())
    assert quick == slow


def test_the_line_of_a_request_obeys_the_level_and_hides_secrets(stream: io.StringIO) -> None:
    log.set_up(level="warning", format="json", stream=stream)
    log.write_request("snackbase.http", **REQUEST)
    assert stream.getvalue() == ""

    log.set_up(level="info", format="json", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        log.write_request("snackbase.http", **{**REQUEST, "path": f"/{JWT}"})
    assert JWT not in stream.getvalue()
    assert lines(stream)[0]["path"] == "/***"


async def test_lines_of_requests_wait_for_each_other_and_never_behind_another_line(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        log.write_request("snackbase.http", **{**REQUEST, "path": "/1"})
        log.write_request("snackbase.http", **{**REQUEST, "path": f"/2?token={JWT}"})
        assert stream.getvalue() == ""
        structlog.get_logger("snackbase.http").warning("other")
        log.write_request("snackbase.http", **{**REQUEST, "path": "/3"})
    while len(lines(stream)) < 4:  # noqa: ASYNC110 - a stream tells nobody that it was written to
        await asyncio.sleep(log.REQUESTS_WAIT_S)

    assert [line.get("path") for line in lines(stream)] == ["/1", "/2?token=***", None, "/3"]


async def test_not_more_lines_of_requests_wait_than_are_kept(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        for number in range(log.MOST_WAITING):
            assert stream.getvalue() == ""
            log.write_request("snackbase.http", **{**REQUEST, "path": f"/{number}"})

    assert [line["path"] for line in lines(stream)] == [f"/{number}" for number in range(log.MOST_WAITING)]


async def test_lines_of_several_threads_do_not_mix_with_those_of_requests(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)

    def talk(name: str) -> None:
        for number in range(200):
            structlog.get_logger(name).info("said", number=number)

    with structlog.contextvars.bound_contextvars(request_id="r1"):
        talking = asyncio.gather(*(asyncio.to_thread(talk, name) for name in "abc"))
        for number in range(200):
            log.write_request("snackbase.http", **{**REQUEST, "path": f"/{number}"})
            await asyncio.sleep(0)
        await talking
    structlog.get_logger("end").info("end")

    found = lines(stream)
    assert [line["path"] for line in found if line["event"] == "request"] == [f"/{number}" for number in range(200)]
    assert len(found) == 801


class Pieces(io.StringIO):
    """Remembers what was written with one call each."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


async def test_whatever_is_written_with_one_call_is_whole_lines_that_a_pipe_takes_in_one_piece() -> None:
    stream = Pieces()
    log.set_up(level="info", format="json", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        for number in range(100):
            log.write_request("snackbase.http", **{**REQUEST, "path": f"/{number}" * 20})
    structlog.get_logger().warning("é" * 3000)
    logging.getLogger("foreign").warning("last")

    assert [line["event"] for line in lines(stream)] == ["request"] * 100 + ["é" * 3000, "last"]
    assert all(piece.endswith("\n") for piece in stream.pieces)
    assert all(len(piece.encode()) <= log.WHOLE_BYTES or piece.count("\n") == 1 for piece in stream.pieces)
    assert len(stream.pieces) < 20


def test_lines_that_waited_on_a_loop_that_has_ended_are_written_by_the_next(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)

    async def ask(path: str) -> None:
        with structlog.contextvars.bound_contextvars(request_id="r1"):
            log.write_request("snackbase.http", **{**REQUEST, "path": path})

    async def ask_and_wait() -> None:
        await ask("/2")
        while len(lines(stream)) < 2:  # noqa: ASYNC110 - a stream tells nobody that it was written to
            await asyncio.sleep(log.REQUESTS_WAIT_S)

    asyncio.run(ask("/1"))
    assert stream.getvalue() == ""
    asyncio.run(ask_and_wait())

    assert [line["path"] for line in lines(stream)] == ["/1", "/2"]


def test_lines_that_wait_are_written_at_the_end_of_the_process() -> None:
    program = """
import asyncio, structlog
from snackbase import log
log.set_up(level="info", format="json")
async def ask():
    structlog.contextvars.bind_contextvars(request_id="r1")
    values = {"method": "GET", "path": "/", "status": 200, "duration_ms": 1, "client": "", "user_id": None}
    log.write_request("snackbase.http", **values)
asyncio.run(ask())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert json.loads(done.stderr)["path"] == "/"


def test_a_line_may_be_written_while_another_is(stream: io.StringIO) -> None:
    class Interrupted(io.StringIO):
        """As when a signal's handler writes to the log in the middle of it."""

        def write(self, text: str) -> int:
            if "first" in text:
                structlog.get_logger().warning("second")
            return super().write(text)

    interrupted = Interrupted()
    log.set_up(level="info", format="json", stream=interrupted)
    structlog.get_logger().warning("first")

    assert [line["event"] for line in lines(interrupted)] == ["second", "first"]


async def test_a_request_that_json_cannot_hold_does_not_lose_the_others(stream: io.StringIO) -> None:
    log.set_up(level="info", format="json", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        for path in ("/1", "/\ud800", "/3"):
            log.write_request("snackbase.http", **{**REQUEST, "path": path})
    structlog.get_logger().warning("end")

    assert [line["event"] for line in lines(stream)][-1] == "end"
    assert len(lines(stream)) == 4
