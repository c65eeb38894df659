"""What the gateway relies on in uvicorn, uvloop and httptools beyond their documented interfaces, part by part.

Only gateway/uvicorn_.py, uvicorn_exchange.py and uvicorn_server.py know uvicorn. When a new release moves something
that they use, a test here fails with a sentence that names it, before anything else fails in a way that takes a day to
understand.
"""

import ast
import asyncio
import gc
import importlib.metadata
import inspect
import socket
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import httptools
import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from snackbase.config import Settings
from snackbase.gateway import uvicorn_, uvicorn_exchange, uvicorn_server
from snackbase.gateway.sockets import AddressesOnly, listen

ROOT = Path(__file__).resolve().parent.parent.parent
KNOWING = (uvicorn_, uvicorn_exchange, uvicorn_server)

ATTRIBUTES: dict[tuple[str, str], str] = {
    ("HttpToolsProtocol", "access_logger"): "the answer to a request that is wrong, in its turn",
    ("HttpToolsProtocol", "config"): "the protocol class that uvicorn was given",
    ("HttpToolsProtocol", "connections"): "the limit of connections, and the hand-over of a stream",
    ("HttpToolsProtocol", "cycle"): "whether a request is under way",
    ("HttpToolsProtocol", "flow"): "reading again after a hand-over",
    ("HttpToolsProtocol", "headers"): "the bounds of a request's head",
    ("HttpToolsProtocol", "logger"): "the answer to a request that is wrong, in its turn",
    ("HttpToolsProtocol", "loop"): "the time limit of a request's head",
    ("HttpToolsProtocol", "parser"): "feeding the parser, and letting go of it",
    ("HttpToolsProtocol", "pipeline"): "requests that wait behind one another",
    ("HttpToolsProtocol", "scope"): "the extension by which an endpoint takes the transport",
    ("HttpToolsProtocol", "server_state"): "a stop in order, and the count of requests",
    ("HttpToolsProtocol", "timeout_keep_alive"): "closing quiet connections with one timer for many requests",
    ("HttpToolsProtocol", "timeout_keep_alive_task"): "closing quiet connections with one timer for many requests",
    ("HttpToolsProtocol", "transport"): "taking the transport",
    ("HttpToolsProtocol", "url"): "the bounds of a request's head",
    ("RequestResponseCycle", "chunked_encoding"): "event streams for HTTP/1.0",
    ("RequestResponseCycle", "default_headers"): "an answer in one piece",
    ("RequestResponseCycle", "disconnected"): "telling a request that its client has gone",
    ("RequestResponseCycle", "keep_alive"): "`Connection: close` with the last answer",
    ("RequestResponseCycle", "logger"): "requests that a second signal cuts off",
    ("RequestResponseCycle", "message_event"): "telling a request that its client has gone",
    ("RequestResponseCycle", "more_body"): "whose fault an invalid body is",
    ("RequestResponseCycle", "on_response"): "the next request after an answer in one piece",
    ("RequestResponseCycle", "receive"): "whether somebody's own code stands before a request's body",
    ("RequestResponseCycle", "response_complete"): "whether a request is under way",
    ("RequestResponseCycle", "response_started"): "whether an invalid body can still be answered",
    ("RequestResponseCycle", "scope"): "letting go of the extension",
    ("RequestResponseCycle", "send"): "whether somebody's own code stands before an answer",
    ("RequestResponseCycle", "transport"): "a response's head and body in one send(2)",
    ("LifespanOn", "shutdown"): "closing the store after a second signal",
    ("LifespanOn", "state"): "the state that requests on handed connections see",
    ("RequestResponseCycle", "waiting_for_100_continue"): "an answer in one piece",
    ("ServerState", "connections"): "counting, and ending, what is open",
    ("ServerState", "default_headers"): "headers of answers that uvicorn does not write",
    ("ServerState", "tasks"): "waiting for applications at the end",
    ("ServerState", "total_requests"): "the count of requests",
    ("Server", "_captured_signals"): "a clean stop that does not look like a crash",
    ("Server", "config"): "the time that a stop may take",
    ("Server", "force_exit"): "a second signal",
    ("Server", "lifespan"): "the state of the application's lifespan",
    ("Server", "server_state"): "connections that another process accepted",
    ("Server", "servers"): "closing the listening sockets before anything else",
    ("Server", "should_exit"): "a stop",
    ("Config", "asgi_version"): "the scope of a WebSocket",
    ("Config", "http_protocol_class"): "connections that another process accepted",
    ("Config", "loaded_app"): "calling the application for a WebSocket",
    ("Config", "root_path"): "the scope of a WebSocket",
    ("Config", "timeout_graceful_shutdown"): "the time that a stop may take",
}
"""(class of uvicorn's, attribute of its instances) -> what the gateway does with it."""

METHODS: dict[tuple[type, str], str] = {
    (HttpToolsProtocol, "_should_upgrade"): "knowing a WebSocket handshake",
    (HttpToolsProtocol, "_start_asgi_task"): "knowing which request runs",
    (HttpToolsProtocol, "_unset_keepalive_if_required"): "a hand-over without a timer left behind",
    (HttpToolsProtocol, "connection_lost"): "the end of a connection",
    (HttpToolsProtocol, "connection_made"): "the beginning of a connection",
    (HttpToolsProtocol, "data_received"): "bounds on what arrives",
    (HttpToolsProtocol, "handle_websocket_upgrade"): "the way to our WebSocket class",
    (HttpToolsProtocol, "on_headers_complete"): "judging a request's head",
    (HttpToolsProtocol, "on_message_begin"): "the extension by which an endpoint takes the transport",
    (HttpToolsProtocol, "on_message_complete"): "knowing that a body has ended",
    (HttpToolsProtocol, "on_response_complete"): "the next request in its turn",
    (HttpToolsProtocol, "shutdown"): "a stop in order",
    (HttpToolsProtocol, "timeout_keep_alive_handler"): "closing quiet connections with one timer for many requests",
    (FlowControl, "resume_reading"): "reading again after a hand-over",
    (uvicorn.Server, "handle_exit"): "a second signal",
    (uvicorn.Server, "shutdown"): "a stop in order",
    (uvicorn.Server, "startup"): "saying when it accepts connections",
}
"""(class of uvicorn's, method that is called or overridden) -> what for."""

PARAMETERS: dict[Callable[..., Any], tuple[str, ...]] = {
    HttpToolsProtocol.__init__: ("config", "server_state", "app_state", "_loop"),
    HttpToolsProtocol._start_asgi_task: ("cycle", "app"),
    FlowControl.__init__: ("transport",),
    RequestResponseCycle.__init__: (
        *("scope", "transport", "flow", "logger", "access_logger", "access_log", "default_headers", "message_event"),
        *("expect_100_continue", "keep_alive", "on_response"),
    ),
    uvicorn.Config.__init__: (
        *("app", "host", "port", "loop", "http", "ws", "lifespan", "log_config", "access_log", "server_header"),
        *("proxy_headers", "backlog", "timeout_keep_alive", "timeout_graceful_shutdown"),
    ),
    uvicorn.Server.startup: ("sockets",),
    uvicorn.Server.shutdown: ("sockets",),
    get_local_addr: ("transport",),
    get_remote_addr: ("transport",),
    is_ssl: ("transport",),
}


OTHERS = {"settings", "handshake", "request", "asyncio", "httptools", "uvicorn", "logging", "error", "channel", "link"}
"""Names in these files that never hold an object of uvicorn's."""


def moved(what: str, purpose: str) -> str:
    version = importlib.metadata.version("uvicorn")
    return f"uvicorn {version} has no {what} any more, on which the gateway relies for: {purpose}"


def _instances() -> dict[str, object]:
    async def application(scope: object, receive: object, send: object) -> None: ...

    config = uvicorn.Config(application, log_config=None)
    config.load()
    state = ServerState()
    protocol = HttpToolsProtocol(config, state, {})
    protocol.on_message_begin()
    given = dict.fromkeys(PARAMETERS[RequestResponseCycle.__init__])
    server = uvicorn.Server(config)
    server.lifespan, server.servers = config.lifespan_class(config), []
    cycle = RequestResponseCycle(**cast(Any, given))
    found = (protocol, cycle, state, server, config, server.lifespan)
    return {type(one).__name__: one for one in found}


@pytest.mark.parametrize(("holder", "name"), ATTRIBUTES)
async def test_uvicorn_still_has_each_attribute_that_the_gateway_uses(holder: str, name: str) -> None:
    assert hasattr(_instances()[holder], name), moved(f"`{holder}.{name}`", ATTRIBUTES[holder, name])


@pytest.mark.parametrize(("holder", "name"), METHODS)
def test_uvicorn_still_has_each_method_that_the_gateway_calls_or_overrides(holder: type, name: str) -> None:
    found = getattr(holder, name, None)
    assert callable(found), moved(f"`{holder.__name__}.{name}()`", METHODS[holder, name])


def test_uvicorn_still_tells_whether_a_client_reads() -> None:
    purpose = "an answer in one piece only to a client that reads"
    assert hasattr(FlowControl(cast(Any, None)), "write_paused"), moved("`FlowControl.write_paused`", purpose)


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda function: str(function.__qualname__))
def test_uvicorn_still_takes_each_parameter_that_the_gateway_passes(function: Callable[..., Any]) -> None:
    missing = set(PARAMETERS[function]) - inspect.signature(function).parameters.keys()
    assert not missing, moved(f"parameter {sorted(missing)} of `{function.__qualname__}`", "calling it")


async def test_the_lists_above_name_every_attribute_of_uvicorns_that_these_files_use() -> None:
    """Whatever they read or set that uvicorn's instances have; so a new use is listed, or this fails."""
    listed = {name for _, name in (*ATTRIBUTES, *METHODS)}
    theirs = {name for one in _instances().values() for name in dir(one)}
    public = {name for base in (asyncio.Protocol, asyncio.Transport, set, list, dict) for name in dir(base)}
    for module in KNOWING:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1].lstrip("_") not in OTHERS:
                place = f"{module.__name__}:{node.lineno} uses `{ast.unparse(node)}` of uvicorn's"
                assert node.attr not in theirs - public - listed, f"{place}, which no test here names"


def test_a_request_cycle_asks_no_more_of_its_transport_than_the_gateway_gives_it() -> None:
    asked = _asked_of("self.transport", inspect.getsource(RequestResponseCycle))
    given = {"write", "close", "is_closing"}
    assert asked <= given, f"uvicorn's request cycle now also uses {sorted(asked - given)} of its transport: JoinedHead"


def test_a_connection_that_is_made_asks_no_more_of_its_transport_than_both_addresses() -> None:
    source = inspect.getsource(HttpToolsProtocol.connection_made)
    assert not _asked_of("transport", source), "uvicorn's connection_made now asks the transport itself: AddressesOnly"


def test_an_upgrade_still_hands_the_whole_head_to_a_protocol_made_by_keywords() -> None:
    given: list[Any] = []

    class Taking(asyncio.Protocol):
        def __init__(self, *, config: object, server_state: object, app_state: object) -> None:
            given.append((config, server_state, app_state))

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            given.append(transport)

        def data_received(self, data: bytes) -> None:
            given.append(data)

    class Transport(asyncio.Transport):
        def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
            given.append(protocol)

    async def application(scope: object, receive: object, send: object) -> None: ...

    async def upgrade() -> None:
        config = uvicorn.Config(application, log_config=None, ws=cast(Any, Taking))
        config.load()
        protocol = HttpToolsProtocol(config, ServerState(), {})
        protocol.connection_made(Transport())
        protocol.on_message_begin()
        protocol.on_url(b"/a?b")
        protocol.on_header(b"Host", b"x")
        protocol.scope["method"] = "GET"
        protocol.handle_websocket_upgrade()

    asyncio.run(upgrade())
    made, transport, head, protocol = given
    assert isinstance(made[1], ServerState)
    assert isinstance(transport, Transport)
    assert head == b"GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n", "the head of an upgrade has another form"
    assert isinstance(protocol, Taking)


def test_nothing_else_knows_uvicorn() -> None:
    """`log.py` names its loggers; nobody else imports it, so that nothing else moves with it."""
    knowing = {Path(str(module.__file__)) for module in KNOWING}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert path in knowing or "uvicorn" not in {name.split(".")[0] for name in names}, path


def test_the_version_range_of_uvicorn_is_one_minor_release_and_holds_what_is_installed() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (pin,) = [one for one in wanted if one.startswith("uvicorn")]
    low, high = pin.removeprefix("uvicorn>=").split(",<")
    (major, minor), (next_major, next_minor) = _minor(low), _minor(high)
    assert (next_major, next_minor) == (major, minor + 1)
    assert _minor(importlib.metadata.version("uvicorn")) == (major, minor)


class StoppedLoop:
    """A loop whose time stands where it is put."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, function: Callable[[], None]) -> asyncio.Event:
        self.timers.append((self.now + seconds, function))
        return asyncio.Event()

    def fire(self) -> None:
        """The only timer."""
        [(self.now, function)] = self.timers
        self.timers.clear()
        function()


async def test_one_timer_closes_a_connection_that_was_quiet_for_long_after_its_last_answer() -> None:
    class Transport(asyncio.Transport):
        closed = False

        def close(self) -> None:
            self.closed = True

        def is_closing(self) -> bool:
            return self.closed

    async def application(scope: object, receive: object, send: object) -> None: ...

    config = uvicorn.Config(application, log_config=None, timeout_keep_alive=75)
    config.load()
    loop, transport = StoppedLoop(), Transport()
    protocol = uvicorn_.HttpProtocol(config, ServerState(), {}, cast(Any, loop))
    protocol.transport, protocol.flow = transport, FlowControl(transport)
    protocol.on_response_complete()
    loop.now = 50
    protocol.on_response_complete()
    assert [at for at, _ in loop.timers] == [75]
    loop.fire()
    assert [at for at, _ in loop.timers] == [125]

    protocol.cycle = _instances()["RequestResponseCycle"]  # type: ignore[assignment]  # one that is not answered yet
    loop.fire()
    assert not loop.timers
    protocol.cycle.response_complete = True
    protocol.on_response_complete()
    assert not transport.closed
    loop.fire()
    assert (loop.now, transport.closed, loop.timers) == (200, True, [])


# uvloop and httptools ------------------------------------------------------------------------------------------------

TRANSPORT = (
    *("abort", "can_write_eof", "close", "get_extra_info", "get_protocol", "get_write_buffer_size", "is_closing"),
    *("pause_reading", "resume_reading", "set_protocol", "write", "write_eof", "writelines"),
)


def test_a_transport_of_uvloops_has_what_links_use_and_keeps_no_socket_object_for_its_addresses() -> None:
    async def accepted() -> tuple[list[str], list[object], object, bool]:
        loop = asyncio.get_running_loop()
        transport: asyncio.Future[asyncio.Transport] = loop.create_future()

        class Accepting(asyncio.Protocol):
            def connection_made(self, made: asyncio.BaseTransport) -> None:
                transport.set_result(cast(asyncio.Transport, made))

        server = await loop.create_server(Accepting, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            made = await transport
            addresses = [made.get_extra_info(name) for name in ("peername", "sockname")]
            kept = [one for one in gc.get_referents(made) if type(one).__name__ == "PseudoSocket"]
            missing = [name for name in TRANSPORT if not callable(getattr(made, name, None))]
            same = addresses == [client.getsockname(), client.getpeername()]
            sslcontext = made.get_extra_info("sslcontext")
            made.abort()
        server.close()
        await server.wait_closed()
        return missing, kept, sslcontext, same

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        missing, kept, sslcontext, same = runner.run(accepted())
    assert not missing, f"a transport of uvloop {importlib.metadata.version('uvloop')} has no {missing} any more"
    assert same, "a transport of uvloop's does not tell both addresses"
    assert not kept, "uvloop makes a socket object when a transport is asked for its addresses: 350 bytes a connection"
    assert sslcontext is None


def test_the_parser_of_httptools_tells_what_the_gateway_asks_it() -> None:
    calls: list[str] = []

    class Told:
        def on_message_begin(self) -> None:
            calls.append("begin")

        def on_headers_complete(self) -> None:
            calls.append("head")

        def on_message_complete(self) -> None:
            calls.append("complete")

    parser = httptools.HttpRequestParser(Told())
    request = b"GET /a?b HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as upgrade:
        parser.feed_data(request + b"early")
    assert upgrade.value.args[0] == len(request), "an upgrade no longer says where the head ends"
    assert parser.get_http_version() == "1.1"
    assert calls == ["begin", "head", "complete"]
    with pytest.raises(httptools.HttpParserError):
        httptools.HttpRequestParser(Told()).feed_data(b"nonsense\r\n\r\n")
    url = httptools.parse_url(b"/a?b")
    assert (url.path, url.query) == (b"/a", b"b")
    with pytest.raises(httptools.HttpParserInvalidURLError):
        httptools.parse_url(b"")


def test_accepted_connections_inherit_how_long_nothing_may_be_acknowledged() -> None:
    (listener,) = listen(Settings(host="127.0.0.1", port=0, realtime_ping_seconds=20, realtime_pong_seconds=7))
    with listener, socket.create_connection(listener.getsockname()[:2]):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 27_000


@pytest.mark.parametrize(
    ("given", "seen"), [(("::1", 8000, 0, 0), ("::1", 8000)), (("127.0.0.1", 1), ("127.0.0.1", 1))]
)
def test_the_gateway_knows_both_addresses_without_a_socket_object(given: Any, seen: tuple[str, int]) -> None:
    class Transport:
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            assert name != "socket", "uvloop would make one and keep it"
            return given

    transport = cast(Any, AddressesOnly(cast(Any, Transport())))
    assert get_remote_addr(transport) == seen
    assert get_local_addr(transport) == seen


def _asked_of(holder: str, source: str) -> set[str]:
    """The attributes of `holder` that a piece of code uses."""
    nodes = ast.walk(ast.parse(textwrap.dedent(source)))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == holder}


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
