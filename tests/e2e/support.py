"""People of a running server, what they write and what they hear: clients of the end-to-end tests.

Only public doors are used: REST, WebSocket, SSE. Whatever proves an identity is remembered, so that every test can look
whether the server printed any of it.
"""

import asyncio
import itertools
import json
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.support.server import ServerProcess

PATIENCE_S = 30.0
"""Only for a server that says nothing at all; no test depends on how fast it is."""
API = "/api/v1"
STREAM = f"{API}/realtime/subscribe"
TRANSPORTS = ("websocket", "sse")
OPEN_RULES: dict[str, Any] = {f"{rule}_rule": "" for rule in ("list", "view", "create", "update", "delete")}

_secrets: set[str] = set()
_numbers = itertools.count(1)
_superadmins: dict[str, tuple[str, dict[str, Any]]] = {}


def remember(secret: str) -> str:
    """Note a token or password that must never be printed; a token's payload and signature count by themselves.

    The id in the middle of an API key is no secret: what the key does is logged under it.
    """
    parts = secret.split(".")[2 if secret.startswith("sb_ak.") else 1 :]
    _secrets.update(part for part in (secret, *parts) if len(part) >= 12)
    return secret


def printed_secrets(output: str) -> list[str]:
    """The beginnings of remembered secrets that stand in an output."""
    return [f"{secret[:6]}…" for secret in _secrets if secret in output]


def fresh(word: str = "name") -> str:
    """A name that nobody used before: names of collections and accounts are the server's, which tests share."""
    return f"{word}{next(_numbers)}{uuid.uuid4().hex[:6]}"


class Form:
    """Equal to every text of this form, so that a whole message can be compared at once."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._pattern.fullmatch(other) is not None

    def __hash__(self) -> int:
        return hash(self._pattern)

    def __repr__(self) -> str:
        return f"<text like {self._pattern.pattern}>"


def matches(pattern: str) -> Any:
    """A `Form` that the type checker lets stand for a text."""
    return Form(pattern)


WHEN = matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
WHERE = matches(r"[A-Za-z0-9._-]{1,128}")


class Messages:
    """What one client receives, in order. `raw` holds every byte of it."""

    transport: str

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []
        self.raw = bytearray()

    async def _receive(self) -> dict[str, Any]:
        """The next message. Raises EOFError when the connection ended."""
        raise NotImplementedError

    async def next(self, *, beats: bool = False) -> dict[str, Any]:
        """The next message; heartbeats only when they are asked for."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    message = await self._receive()
                    self.all.append(message)
                    if beats or message["type"] != "heartbeat":
                        return message
        except TimeoutError:
            raise AssertionError(f"nothing came after {self.all[-5:]}") from None

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await self.next() for _ in range(count)]

    async def beat(self) -> dict[str, Any]:
        """The next heartbeat; everything before it is passed over."""
        while (message := await self.next(beats=True))["type"] != "heartbeat":
            pass
        return message

    async def until(self, condition: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Everything up to and with the first message that fulfils the condition."""
        found = [await self.next()]
        while not condition(found[-1]):
            found.append(await self.next())
        return found

    async def rest(self) -> list[dict[str, Any]]:
        """Everything up to the end of the connection."""
        found: list[dict[str, Any]] = []
        try:
            while True:
                found.append(await self.next())
        except EOFError:
            return found


class Socket(Messages):
    """A WebSocket client."""

    transport = "websocket"

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection

    async def send(self, message: Mapping[str, Any] | str | bytes) -> None:
        """A JSON message, or text or bytes as they are."""
        await self.connection.send(json.dumps(message) if isinstance(message, Mapping) else message)

    async def ask(self, action: str, **keys: Any) -> dict[str, Any]:
        """Send one message and return what comes next."""
        await self.send({"action": action, **keys})
        return await self.next()

    async def subscribe(self, collection: str, **keys: Any) -> dict[str, Any]:
        answer = await self.ask("subscribe", collection=collection, **keys)
        assert answer["type"] == "subscribed", answer
        return answer

    async def ended(self) -> tuple[int | None, str]:
        """Read to the end; the close code and reason that the server sent."""
        await self.rest()
        return self.connection.close_code, self.connection.close_reason or ""

    async def _receive(self) -> dict[str, Any]:
        try:
            data = await self.connection.recv(decode=False)
        except ConnectionClosed:
            raise EOFError from None
        assert isinstance(data, bytes)
        self.raw += data
        message: dict[str, Any] = json.loads(data)
        return message


@dataclass(slots=True)
class Block:
    """One block of an event stream: its lines in order, and the fields a browser would see."""

    lines: list[str]
    data: dict[str, Any] = field(default_factory=dict)
    id: str | None = None
    event: str = "message"
    retry: int | None = None

    @classmethod
    def of(cls, lines: list[str]) -> Self:
        block = cls(lines)
        for line in lines:
            name, _, value = line.partition(": ")
            if name == "data":
                block.data = json.loads(value)
            elif name == "id":
                block.id = value
            elif name == "event":
                block.event = value
            elif name == "retry":
                block.retry = int(value)
        return block


class Stream(Messages):
    """A Server-Sent Events client that shows what stands around the messages."""

    transport = "sse"

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self.response = response
        self.blocks: list[Block] = []
        self._chunks = response.aiter_raw()
        self._rest = b""

    async def block(self) -> Block:
        """The next block, whatever it holds."""
        await self.next(beats=True)
        return self.blocks[-1]

    async def _receive(self) -> dict[str, Any]:
        while b"\n\n" not in self._rest:
            try:
                chunk = await anext(self._chunks)
            except (StopAsyncIteration, httpx.TransportError):
                raise EOFError from None
            self.raw += chunk
            self._rest += chunk
        text, _, self._rest = self._rest.partition(b"\n\n")
        self.blocks.append(Block.of(text.decode().split("\n")))
        return self.blocks[-1].data


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP answer instead of a connection."""

    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.body["code"])


class Member:
    """A logged-in user: REST as that user, and the tokens of the login."""

    def __init__(self, house: "House", answer: Mapping[str, Any], *, email: str, password: str) -> None:
        self.house = house
        self.email = email
        self.password = remember(password)
        self.account: dict[str, Any] = answer["account"]
        self.user: dict[str, Any] = answer["user"]
        self.token: str = remember(answer["token"])
        self.refresh_token: str = remember(answer["refresh_token"])

    @property
    def account_id(self) -> str:
        return str(self.account["id"])

    @property
    def id(self) -> str:
        return str(self.user["id"])

    async def request(self, method: str, path: str, *, status: int | None = None, **more: Any) -> httpx.Response:
        """Call `/api/v1…` with this user's token; `status` is what has to come back, by default any success."""
        headers = {"authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        answer = await self.house.client.request(method, f"{API}{path}", headers=headers, **more)
        expected = answer.is_success if status is None else answer.status_code == status
        assert expected, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    async def create(self, collection: str, **data: Any) -> dict[str, Any]:
        return dict((await self.request("POST", f"/records/{collection}", json=data)).json())

    async def update(self, collection: str, record_id: str, **data: Any) -> dict[str, Any]:
        return dict((await self.request("PATCH", f"/records/{collection}/{record_id}", json=data)).json())

    async def delete(self, collection: str, record_id: str) -> None:
        await self.request("DELETE", f"/records/{collection}/{record_id}")

    async def batch(self, method: str, collection: str, **body: Any) -> dict[str, Any]:
        return dict((await self.request(method, f"/records/{collection}/batch", json=body)).json())

    async def create_all(self, collection: str, *records: Mapping[str, Any]) -> list[dict[str, Any]]:
        return list((await self.batch("POST", collection, records=list(records)))["created"])

    async def login_again(self) -> "Member":
        """A second login of the same user, with tokens of its own."""
        return await self.house.login(self.account["slug"], self.email, self.password)


class House:
    """One server with its superadmin, and every connection a test opened to it."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        # Certificates are never needed on loopback, and reading them takes longer than most tests.
        self.client = httpx.AsyncClient(
            base_url=server.base_url,
            verify=False,  # noqa: S501
            timeout=httpx.Timeout(PATIENCE_S, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self.client)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._open.aclose()

    # People

    async def login(self, account: str, email: str, password: str) -> Member:
        body = {"account": account, "email": email, "password": password}
        answer = await self.client.post(f"{API}/auth/login", json=body)
        assert answer.status_code == 200, answer.text
        return Member(self, answer.json(), email=email, password=password)

    async def superadmin(self) -> Member:
        """The superadmin's login, shared by all tests of this process."""
        email, password = ServerProcess.SUPERADMIN_EMAIL, ServerProcess.SUPERADMIN_PASSWORD
        key = str(self.server.folder)
        if key not in _superadmins:
            made = await self.login("system", email, password)
            told = {"account": made.account, "user": made.user, "refresh_token": made.refresh_token}
            _superadmins[key] = (made.token, told)
        token, told = _superadmins[key]
        return Member(self, {**told, "token": token}, email=email, password=password)

    async def founder(self, name: str = "house") -> Member:
        """The first user, an admin, of a new account."""
        slug, password = fresh(name).lower(), f"a-password-of-{uuid.uuid4().hex}"
        email = f"{slug}@example.com"
        body = {"email": email, "password": password, "account_name": name, "account_slug": slug}
        answer = await self.client.post(f"{API}/auth/register", json=body)
        assert answer.status_code == 201, answer.text
        return Member(self, answer.json(), email=email, password=password)

    async def member(self, of: Member, **facts: Any) -> Member:
        """Another user of somebody's account, a plain `user` unless told otherwise."""
        email, password = f"{fresh('member')}@example.com", f"a-password-of-{uuid.uuid4().hex}"
        body = {"email": email, "password": password, "account_id": of.account_id, "role_id": 2, **facts}
        await (await self.superadmin()).request("POST", "/users", json=body, status=201)
        return await self.login(of.account["slug"], email, password)

    # Collections

    async def collection(
        self, *schema: str | Mapping[str, Any], name: str | None = None, missing_ok: bool = False, **more: Any
    ) -> str:
        """Make a collection and return its name; a field is given whole, or as the name of a text."""
        name = name or fresh("things")
        fields = [{"name": one, "type": "text"} if isinstance(one, str) else dict(one) for one in schema]
        body = {"name": name, "schema": fields, **more}
        superadmin = await self.superadmin()
        answer = await self.client.post(
            f"{API}/collections", json=body, headers={"authorization": f"Bearer {superadmin.token}"}
        )
        assert answer.status_code == 201 or (missing_ok and answer.status_code == 409), answer.text
        return name

    # Realtime

    async def socket(
        self,
        member: Member | None,
        *,
        subprotocols: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        origin: str | None = None,
        query: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Socket:
        """Open a WebSocket, with the member's token in the URL. Raises websockets' InvalidStatus when it is refused."""
        asked = {**({"token": member.token} if member else {}), **(query or {})}
        connection = connect(
            f"{self.server.ws_url}?{urlencode(asked)}" if asked else self.server.ws_url,
            subprotocols=[Subprotocol(one) for one in subprotocols] or None,
            additional_headers=dict(headers or {}),
            origin=Origin(origin) if origin else None,
            **{"proxy": None, "compression": None, "open_timeout": PATIENCE_S, "ping_interval": None, **options},
        )
        return Socket(await self._open.enter_async_context(connection))

    async def refused_socket(self, member: Member | None, **options: Any) -> Refusal:
        """The HTTP answer to a WebSocket handshake that has to fail."""
        try:
            await self.socket(member, **options)
        except InvalidStatus as refused:
            answer = refused.response
            return Refusal(answer.status_code, answer.headers, json.loads(answer.body or b"{}"))
        raise AssertionError("the handshake was accepted")

    async def _stream(self, member: Member | None, query: Iterable[tuple[str, str]], headers: Any) -> httpx.Response:
        asked: list[tuple[str, Any]] = [*([("token", member.token)] if member else []), *query]
        request = self.client.build_request("GET", STREAM, params=asked, headers=headers)
        # A stream is silent for as long as nothing happens.
        request.extensions["timeout"] = {"connect": PATIENCE_S, "read": None, "write": PATIENCE_S, "pool": PATIENCE_S}
        return await self.client.send(request, stream=True)

    async def stream(
        self, member: Member | None, *query: tuple[str, str], headers: Mapping[str, str] | None = None
    ) -> Stream:
        """Open an event stream, with the member's token in the URL."""
        response = await self._stream(member, query, headers)
        self._open.push_async_callback(response.aclose)
        assert response.status_code == 200, await response.aread()
        return Stream(response)

    async def refused_stream(
        self, member: Member | None, *query: tuple[str, str], headers: Mapping[str, str] | None = None
    ) -> Refusal:
        """The HTTP answer to a stream that has to fail."""
        response = await self._stream(member, query, headers)
        body = await response.aread()
        assert response.status_code != 200
        return Refusal(response.status_code, response.headers, json.loads(body))

    async def follow(
        self, transport: str, member: Member, *subscriptions: str | Mapping[str, Any], **query: str
    ) -> Messages:
        """Subscribe over either transport and wait for every acknowledgement."""
        wanted = [{"collection": one} if isinstance(one, str) else one for one in subscriptions]
        following: Messages
        if transport == "sse":
            asked = [("subscription", json.dumps(one)) for one in wanted]
            following = await self.stream(member, *asked, *query.items())
        else:
            following = socket = await self.socket(member, query=query, max_queue=None)
            for one in wanted:
                await socket.send({"action": "subscribe", **one})
        for one, answer in zip(wanted, await following.take(len(wanted)), strict=True):
            assert (answer["type"], answer["collection"]) == ("subscribed", one["collection"]), answer
        return following


def place(position: str) -> int:
    """The sequence number in a position; opaque to clients, but a test may look whether it grows."""
    return int(position.split(".")[1], 36)


def seen(messages: list[dict[str, Any]]) -> list[tuple[str, str | None, str]]:
    """Operation, enter or leave, and the title (or the id, where only that is told) of each."""
    return [
        (str(m["type"]).partition(".")[2], m.get("change"), m["data"].get("title") or m["data"]["id"]) for m in messages
    ]
