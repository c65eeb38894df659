"""Clients in Python: a raw WebSocket, and an event stream read with plain HTTP. Each keeps one or more live lists.

They come back by themselves, as an app would: after a drop, a refusal, an expired token, or when nothing was heard for
too long. A token is renewed in place on some connections and left to expire on others.
"""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from proof.livelist import EVERY, Difference, LiveList, Message, State
from proof.people import API, Login, Unanswered
from proof.world import COLLECTIONS

SILENCE_S = 5.0
"""A connection without even a heartbeat for so long is given up; heartbeats come much more often in the proof."""
STREAM = f"{API}/realtime/subscribe"
DROPS = (OSError, WebSocketException, httpx.TransportError, TimeoutError, EOFError, Unanswered)


class Client:
    """A user's connection to the server, over and over again.

    Attributes:
        base: host and port to connect to.
        away_until: before this time it does not come back.
        counts: what happened to it.
    """

    kind = ""

    def __init__(self, name: str, login: Login, lists: Sequence[LiveList], *, base: str, chance: random.Random) -> None:
        self.name = name
        self.login = login
        self.lists = list(lists)
        self.base = base
        self.chance = chance
        self.away_until = 0.0
        self.counts: Counter[str] = Counter()
        self._by_key = {one.name: one for one in self.lists}
        self._opened: asyncio.Task[None] | None = None
        self._outdated = False
        self._awake = asyncio.Event()

    async def run(self) -> None:
        """For ever. Raises Difference."""
        failures = 0
        while True:
            await self._stay_away()
            self._opened = asyncio.create_task(self._connect())
            began = time.monotonic()
            await asyncio.wait([self._opened])
            for one in self.lists:
                one.lost()
            error = None if self._opened.cancelled() else self._opened.exception()
            if error is not None and not isinstance(error, DROPS):
                raise error
            if isinstance(error, InvalidStatus):
                self._answered(error.response.status_code)
            self.counts["connections lost"] += 1
            failures = 0 if time.monotonic() - began > 1 else min(failures + 1, 4)
            await asyncio.sleep(self.chance.random() * 0.1 * 2**failures)

    async def close(self) -> None:
        if self._opened is not None:
            self._opened.cancel()
            with suppress(asyncio.CancelledError, *DROPS):
                await self._opened

    async def _stay_away(self) -> None:
        self._awake.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self.away_until - time.monotonic())):
                await self._awake.wait()

    def awake(self) -> None:
        """Come back now."""
        self.away_until = 0.0
        self._awake.set()

    def drop(self, away_s: float = 0.0) -> None:
        """End the connection from this side, without a word, and stay away for a while."""
        self.away_until = time.monotonic() + away_s
        if self._opened is not None:
            self._opened.cancel()

    async def _connect(self) -> None:
        """One connection, to its end."""
        raise NotImplementedError

    async def _token(self) -> str:
        outdated, self._outdated = self._outdated, False
        return await self.login.token(fresh=outdated)

    def _answered(self, status: int) -> None:
        """An HTTP answer instead of a connection."""
        self.counts[f"answer {status}"] += 1
        self._outdated = self._outdated or status == 401

    def _dispatch(self, message: Message) -> LiveList | None:
        """Give a message to the list it belongs to; the list. Raises Difference."""
        self.counts["messages"] += 1
        if message.type == "closing":
            self.counts[f"closing {message.get('code')}"] += 1
        elif message.type == "heartbeat":
            if all(one.state in (State.LIVE, State.REFUSED) for one in self.lists):
                for one in self.lists:
                    one.beat(message.get("position"))
        elif message.key in self._by_key:
            found = self._by_key[message.key]
            found.take(message)
            return found
        elif message.type == "error" and (message.get("close_code") or message.get("action") == "auth"):
            self.counts[f"ended {message.get('code')}"] += 1
            self._outdated = True
        elif message.type not in ("auth", "pong"):
            raise Difference(f"{self.name}: a message of no subscription: {message.text[:300]!r}")
        return None


class SocketClient(Client):
    """A raw WebSocket: resumes every list from its own cursor, fetches a stale one in place."""

    kind = "websocket"

    async def _connect(self) -> None:
        token = await self._token()
        url = f"ws://{self.base}{API}/realtime/ws?{urlencode({'token': token})}"
        # Not as a context: who is cancelled must not wait for a closing handshake through a network that stalls.
        socket = await connect(url, proxy=None, compression=None, open_timeout=SILENCE_S, ping_interval=None)
        renewing = asyncio.create_task(self._renew(socket)) if self.chance.random() < 0.6 else None
        try:
            await self._ask(socket, self.lists)
            while True:
                async with asyncio.timeout(SILENCE_S):
                    text = await socket.recv(decode=False)
                await self._take(socket, Message(text))
        finally:
            socket.transport.abort()
            if renewing is not None:
                renewing.cancel()

    async def _take(self, socket: ClientConnection, message: Message) -> None:
        if message.type == "heartbeat":
            again = [one for one in self.lists if one.state is State.REFUSED]
            if again and self.chance.random() < 0.3:
                await self._ask(socket, again)
        found = self._dispatch(message)
        if found is not None and found.state is State.STALE:
            await self._ask(socket, [found])

    async def _ask(self, socket: ClientConnection, lists: Sequence[LiveList]) -> None:
        """Subscribe: those that resume in one message, merged by the server; the others one by one."""
        for one in lists:
            if one.collection == EVERY and one.cursor is None:
                await self._fill(one)
        resuming = [one for one in lists if one.cursor is not None]
        filling = [one for one in lists if one.cursor is None]
        requests: list[dict[str, Any]] = [one.request() for one in filling]
        if resuming:
            requests.append({"subscriptions": [one.request() for one in resuming]})
        for one in lists:
            one.asked()
        for request in requests:
            await socket.send(json.dumps({"action": "subscribe", **request}))

    async def _fill(self, one: LiveList) -> None:
        """`*` has no snapshot: every list is read, and what happened since before the first is told again."""
        since = await self._here()
        records: dict[str, bytes] = {}
        for collection in COLLECTIONS:
            records |= (await self.login.list(collection, {})).records
        one.filled(records, since=since, until=await self._here())

    async def _here(self) -> str:
        answer = await self.login.once("GET", "/realtime/changes", params={"collection": EVERY})
        return str(answer.json()["position"])

    async def _renew(self, socket: ClientConnection) -> None:
        """A fresh token in place, now and then."""
        while True:
            await asyncio.sleep(self.login.lifetime_s * (0.2 + 0.4 * self.chance.random()))
            token = await self.login.token(fresh=True)
            with suppress(WebSocketException, OSError):
                await socket.send(json.dumps({"action": "auth", "token": token}))
            self.counts["tokens renewed in place"] += 1


class StreamClient(Client):
    """An event stream over plain HTTP. It resumes by Last-Event-ID like a browser, and begins anew after a `resync`."""

    kind = "sse"
    refused_again_s = 0.5

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self._last_id: str | None = None

    async def _connect(self) -> None:
        token = await self._token()
        asked_for = await self._allowed()
        headers = self._resume(asked_for)
        asked: list[tuple[str, str | int | float | bool | None]] = [("token", token)]
        asked += [("subscription", json.dumps(_first(one))) for one in asked_for]
        for one in asked_for:
            one.asked()
        async with (
            httpx.AsyncClient(verify=False, timeout=SILENCE_S) as client,  # noqa: S501
            client.stream("GET", f"http://{self.base}{STREAM}", params=asked, headers=headers) as answer,
        ):
            if answer.status_code != 200:
                await self._turned_away(answer, asked_for)
                return
            async for message, event_id in _blocks(answer):
                found = self._dispatch(message)
                if event_id is not None:
                    self._last_id = event_id
                if found is not None and found.state is State.STALE:
                    self._last_id = None
                    return
                if message.type == "heartbeat" and await self._allowed_again():
                    return
            raise EOFError

    def _resume(self, lists: Sequence[LiveList]) -> dict[str, str]:
        """The header that resumes all lists of the stream; none when one of them needs its whole set."""
        if self._last_id is None or any(one.cursor is None for one in lists):
            self._last_id = None
            for one in lists:
                one.forget()
            return {}
        for one in lists:
            one.repeats()
        return {"last-event-id": self._last_id}

    async def _allowed(self) -> list[LiveList]:
        """The lists that may be read: one that may not would keep the whole stream from opening."""
        if all(one.state is not State.REFUSED for one in self.lists):
            return self.lists
        found = [one for one in self.lists if one.state is not State.REFUSED or await self._readable(one)]
        return found or self.lists

    async def _readable(self, one: LiveList) -> bool:
        more = {"filter": one.filter, "fields": one.fields}
        asked = {"limit": "1", "total": "false"} | {name: value for name, value in more.items() if value}
        answer = await self.login.once("GET", f"/records/{one.collection}", params=asked)
        return answer.status_code == 200

    async def _allowed_again(self) -> bool:
        refused = [one for one in self.lists if one.state is State.REFUSED]
        return bool(refused) and self.chance.random() < 0.3 and any([await self._readable(one) for one in refused])

    async def _turned_away(self, answer: httpx.Response, lists: Sequence[LiveList]) -> None:
        self._answered(answer.status_code)
        body = await answer.aread()
        if answer.status_code in (400, 403, 404):
            refusal = json.dumps({"type": "error", "code": Message(body).get("code")})
            for one in lists:
                one.take(Message(refusal))
        elif answer.status_code not in (401, 429):
            raise Difference(f"{self.name}: the stream was answered {answer.status_code} {body[:300]!r}")
        self.away_until = time.monotonic() + self.refused_again_s


def _first(one: LiveList) -> dict[str, Any]:
    """What stands in the URL: always as at the first time; Last-Event-ID wins over it."""
    return {key: value for key, value in one.request().items() if key != "since"} | {"snapshot": True}


async def _blocks(answer: httpx.Response) -> AsyncIterator[tuple[Message, str | None]]:
    """The messages of an event stream with their ids."""
    rest = b""
    async for chunk in answer.aiter_raw():
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            data, event_id = b"", None
            for line in block.split(b"\n"):
                name, _, value = line.partition(b": ")
                if name == b"data":
                    data = value
                elif name == b"id":
                    event_id = value.decode()
            if data:
                yield Message(data), event_id
