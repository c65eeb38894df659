"""Structured log lines on stderr: one JSON object a line, or readable text on a terminal.

Promises: nothing that looks like a token leaves this process by a log line, whoever wrote it; a stack trace shows no
values of variables. `set_up` is called once by whoever owns the process; an application inside a foreign process only
configures structlog when nobody else has.
"""

import asyncio
import atexit
import contextlib
import logging
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REQUESTS_WAIT_S = 0.01
MOST_WAITING = 256
"""How long lines of requests wait for each other, and how many at most: written together they cost a tenth."""
WHOLE_BYTES = 4096
"""What a pipe takes in one piece (PIPE_BUF of pipe(7)), also when several workers write to it."""
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MASK = "***"

_SECRET = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*"  # a JSON Web Token (RFC 7519)
    r"|\bsb_(?:ak|in)\.[\w.-]+"  # an API key, the token of an invitation
    r"|(?<=token=)[^&\s\"'\\]+"
    r"|(?<=Bearer )[^\s\"'\\]+"
)
_SIGNS = ("eyJ", "sb_", "oken=", "Bearer ")
"""One of them stands in every line with a secret: looking for them is cheaper than the pattern."""
_SECRET_KEYS = frozenset({"token", "refresh_token", "password", "secret", "authorization", "api_key", "x-api-key"})


class RequestLine(msgspec.Struct, frozen=True, kw_only=True):
    """The access log's line, key for key as structlog renders it from the same values."""

    method: str
    path: str
    status: int
    duration_ms: float
    client: str
    user_id: str | None
    event: str = "request"
    logger: str
    request_id: str
    level: str = "info"
    timestamp: datetime


def masked(text: str) -> str:
    """`text` with everything that looks like a token replaced."""
    return _SECRET.sub(MASK, text)


def set_up(*, level: str, format: str, stream: TextIO | None = None) -> None:
    """Configure structlog and the standard library's logging (uvicorn's among it) for this process.

    Args:
        level: debug | info | warning | error.
        format: json | console | auto (console when the stream is a terminal).
    """
    out = stream or sys.stderr
    json = format == "json" or (format == "auto" and not out.isatty())
    handler = _Handler(configure_structlog(level=level, json=json, stream=out))
    shared: list[Processor] = [structlog.stdlib.add_logger_name, *_processors()]
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(json, out)]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level])
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        # What it says of its start and stop, the application says itself.
        logger.setLevel(logging.WARNING)


def configure_structlog(*, level: str, json: bool, stream: TextIO | None = None) -> "_Out":
    """Configure structlog alone, past the standard library: a line costs a few microseconds."""
    out = stream or sys.stderr
    loggers = _Loggers(out, plain=json and LEVELS[level] <= LEVELS["info"])
    structlog.configure(
        processors=[_logger_name, *_processors(), *_rendering(json, out)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=loggers,
        cache_logger_on_first_use=False,
    )
    return loggers.out


def mask_foreign_loggers() -> None:
    """Mask tokens in uvicorn's own lines: its access log quotes query strings."""
    for name in ("uvicorn.access", "uvicorn.error", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        if not any(isinstance(old, _MaskingFilter) for old in logger.filters):
            logger.addFilter(_MaskingFilter())


def write_request(
    logger: str, *, method: str, path: str, status: int, duration_ms: float, client: str, user_id: str | None
) -> None:
    """The access log's line of one request, at level info.

    Nearly all lines of a server are these, so where structlog would render JSON by the configuration above and nobody
    has bound more than the request id, the same line is written without its help: a moment later, with those of other
    requests, and before any other line.
    """
    config, bound = structlog.get_config(), structlog.contextvars.get_contextvars()
    loggers, request_id = config["logger_factory"], bound.get("request_id")
    ours = isinstance(loggers, _Loggers) and loggers.plain and config["processors"][-1:] == [_mask_line]
    if not ours or len(bound) != 1 or request_id is None:
        structlog.get_logger(logger).info(
            "request",
            method=method,
            path=path,
            status=status,
            duration_ms=duration_ms,
            client=client,
            user_id=user_id,
        )
        return
    line = RequestLine(
        method=method,
        path=path,
        status=status,
        duration_ms=duration_ms,
        client=client,
        user_id=user_id,
        logger=logger,
        request_id=request_id,
        timestamp=datetime.now(UTC),
    )
    loggers.out.request(line)


class _Loggers:
    """Makes structlog's innermost loggers; remembers the name each was asked for.

    Attributes:
        plain: lines of level info are written, as JSON. out: where all lines go.
    """

    def __init__(self, stream: TextIO, *, plain: bool) -> None:
        self.plain = plain
        self.out = _Out(stream)

    def __call__(self, *names: str) -> "_Lines":
        return _Lines(self.out, names[0] if names else "snackbase")


class _Out:
    """The stream. Lines of requests wait a moment for more of them; every other line takes them along, and comes behind
    them. What is written with one call are whole lines, so that those of several threads or workers do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # A signal handler may write a line while one is being written.
        self._lock = threading.RLock()
        self._requests: list[RequestLine] = []
        self._planned_on: asyncio.AbstractEventLoop | None = None
        self._encode = msgspec.json.Encoder().encode_lines
        _outs.add(self)

    def request(self, line: RequestLine) -> None:
        """On an event loop it may wait; it does not elsewhere."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        with self._lock:
            self._requests.append(line)
            if loop is not None and len(self._requests) < MOST_WAITING:
                # One that has ended meanwhile will not write them.
                if loop is not self._planned_on:
                    self._planned_on = loop
                    loop.call_later(REQUESTS_WAIT_S, self.write)
                return
        self.write()

    def write(self, text: str = "") -> None:
        """What waits, and then `text`."""
        with self._lock:
            waiting, self._requests, self._planned_on = self._requests, [], None
            lines = [text] if text else []
            if waiting:
                lines = [*self._rendered(waiting), *lines]
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more, or it is closed: work goes on
                for piece in _pieces(lines):
                    self._stream.write(piece)
                    self._stream.flush()

    def _rendered(self, waiting: list[RequestLine]) -> list[str]:
        try:
            # No secret has a line's end in it.
            return [line + "\n" for line in _mask_line(None, "", self._encode(waiting).decode()).split("\n")[:-1]]
        except (UnicodeEncodeError, RecursionError, TypeError):
            rendered = (_to_json(None, "", msgspec.structs.asdict(line)) for line in waiting)
            return [_mask_line(None, "", line) + "\n" for line in rendered]


_outs: "weakref.WeakSet[_Out]" = weakref.WeakSet()


@atexit.register
def _write_what_waits() -> None:
    for out in _outs:
        out.write()


def _pieces(lines: list[str]) -> Iterator[str]:
    """Lines together, as far as they fit into one piece."""
    piece: list[str] = []
    size = 0
    for line in lines:
        grown = len(line.encode("utf-8", "replace"))
        if size + grown > WHOLE_BYTES and piece:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(line)
        size += grown
    if piece:
        yield "".join(piece)


class _Handler(logging.Handler):
    """Lines of the standard library, among the others."""

    def __init__(self, out: _Out) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._out.write(self.format(record) + "\n")
        except Exception:
            self.handleError(record)


class _Lines:
    """Writes lines that are rendered already."""

    def __init__(self, out: _Out, name: str) -> None:
        self._out = out
        self.name = name

    def msg(self, line: str) -> None:
        self._out.write(line + "\n")

    debug = info = warning = error = critical = exception = log = msg


class _MaskingFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(masked(arg) if isinstance(arg, str) else arg for arg in record.args)
        record.msg = masked(record.msg) if isinstance(record.msg, str) else record.msg
        return True


def _processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_keys,
    ]


def _rendering(json: bool, stream: TextIO) -> list[Processor]:
    if json:
        return [structlog.processors.format_exc_info, _to_json, _mask_line]
    console = structlog.dev.ConsoleRenderer(
        colors=stream.isatty(),
        exception_formatter=structlog.dev.plain_traceback,  # the rich one prints local variables
    )
    return [_escape_control_characters, console, _mask_line]


def _logger_name(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    return event


def _mask_keys(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key in _SECRET_KEYS & event.keys():
        event[key] = MASK
    return event


def _escape_control_characters(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """A value from a client must not start a line of its own, nor drive the terminal."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception" and not value.isprintable():
            event[key] = value.encode("unicode_escape").decode("ascii")
    return event


def _to_json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=str).decode()
    except (UnicodeEncodeError, RecursionError, TypeError):  # a value that JSON cannot hold must not lose the line
        return msgspec.json.encode({str(key): ascii(value) for key, value in event.items()}).decode()


def _mask_line(logger: WrappedLogger, method: str, line: Any) -> str:
    text = str(line)
    return masked(text) if any(sign in text for sign in _SIGNS) else text
