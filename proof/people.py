"""Users of the servers under proof: their logins, and REST as one of them, patient with a server that is away."""

import asyncio
import itertools
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

API = "/api/v1"
PASSWORD = "a-password-of-the-proof"
PATIENCE_S = 60.0
LOGINS = 3
_bodies = msgspec.json.Decoder()
_raw_items = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws = msgspec.json.Decoder(list[msgspec.Raw])


class Unanswered(Exception):
    """No answer, or one that says nothing about whether the request was served."""


class Desk:
    """The REST of all nodes, without any proxy in between: one request here, the next one there.

    Args:
        away: numbers of nodes that are not asked, kept by somebody else.
    """

    def __init__(self, *base_urls: str, away: Collection[int] = ()) -> None:
        self.base_urls = base_urls
        self._away = away
        self._turns = itertools.count()
        # Certificates are never needed on loopback, and reading them takes time.
        self.client = httpx.AsyncClient(verify=False, timeout=15)  # noqa: S501

    def _next(self) -> int:
        for _ in self.base_urls:
            number = next(self._turns) % len(self.base_urls)
            if number not in self._away:
                return number
        raise Unanswered("every node is away")

    async def once(
        self, method: str, path: str, *, token: str | None = None, node: int | None = None, **more: Any
    ) -> httpx.Response:
        """One request, to that node or the next one. Raises Unanswered when its outcome is unknown."""
        headers = {**({"authorization": f"Bearer {token}"} if token else {}), **more.pop("headers", {})}
        url = f"{self.base_urls[self._next() if node is None else node]}{API}{path}"
        try:
            answer = await self.client.request(method, url, headers=headers, **more)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unanswered(f"{method} {path}: {type(error).__name__}") from None
        if answer.status_code >= 500:
            if answer.status_code == 500:
                raise AssertionError(f"{method} {path}: 500 {answer.text}")
            raise Unanswered(f"{method} {path}: {answer.status_code}")
        return answer

    async def until_answered(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The same request again and again until it is answered; for what may be repeated."""
        ends = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self.once(method, path, **more)
            except Unanswered:
                if time.monotonic() > ends:
                    raise
                await asyncio.sleep(0.2)


class Person:
    """A user. Each client makes a `Login` of its own."""

    def __init__(self, desk: Desk, *, account: str, account_id: str, email: str, password: str = PASSWORD) -> None:
        self.desk = desk
        self.account = account
        self.account_id = account_id
        self.email = email
        self.password = password
        self.id = ""

    @property
    def name(self) -> str:
        return f"{self.email.partition('@')[0]}@{self.account}"


class Login:
    """A token that is renewed before it expires.

    A refresh whose answer was lost is never repeated: a refresh token that is used twice ends every login of the user.
    """

    def __init__(self, person: Person) -> None:
        self.person = person
        self.lifetime_s = 0.0
        self._token = ""
        self._refresh = ""
        self._until = 0.0
        self._turn = asyncio.Lock()

    async def token(self, *, fresh: bool = False) -> str:
        """An access token with some life in it; a new one when `fresh`."""
        async with self._turn:
            if fresh or time.monotonic() > self._until - 0.3 * self.lifetime_s:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        desk, person = self.person.desk, self.person
        refresh, self._refresh = self._refresh, ""
        answer = None
        if refresh:
            try:
                answer = await desk.once("POST", "/auth/refresh", json={"refresh_token": refresh})
            except Unanswered:
                answer = None
        # A login that meets a change of the password is refused, and right the next time.
        for _ in range(LOGINS):
            if answer is not None and answer.status_code == 200:
                break
            body = {"account": person.account, "email": person.email, "password": person.password}
            answer = await desk.until_answered("POST", "/auth/login", json=body)
        if answer is None or answer.status_code != 200:
            raise Unanswered(f"{person.name} cannot log in: {answer and answer.text}")
        told = _bodies.decode(answer.content)
        self._token, self._refresh, self.lifetime_s = told["token"], told["refresh_token"], told["expires_in"]
        self._until = time.monotonic() + self.lifetime_s

    async def once(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request as this user, with a new token if this one is refused. Raises Unanswered."""
        answer = await self.person.desk.once(method, path, token=await self.token(), **more)
        if answer.status_code == 401:
            answer = await self.person.desk.once(method, path, token=await self.token(fresh=True), **more)
        return answer

    async def until_answered(self, method: str, path: str, **more: Any) -> httpx.Response:
        """A request that may be repeated, until there is an answer."""
        desk = self.person.desk
        answer = await desk.until_answered(method, path, token=await self.token(), **more)
        if answer.status_code == 401:
            answer = await desk.until_answered(method, path, token=await self.token(fresh=True), **more)
        return answer

    async def call(self, method: str, path: str, **more: Any) -> Any:
        """A request that may be repeated, until it is answered with success; the answer's JSON."""
        answer = await self.until_answered(method, path, **more)
        if not answer.is_success:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        return _bodies.decode(answer.content) if answer.content else None

    async def list(
        self,
        collection: str,
        query: Mapping[str, str],
        *,
        headers: Mapping[str, str] | None = None,
        node: int | None = None,
    ) -> "Listed":
        """A whole list, by keyset pages: they miss no record that stays; from one node, or each page from another."""
        found = Listed(200)
        asked = {"sort": "id", "limit": "100", "total": "false", **query}
        while True:
            path = f"/records/{collection}"
            answer = await self.until_answered("GET", path, params=asked, headers=dict(headers or {}), node=node)
            if answer.status_code != 200:
                return Listed(answer.status_code)
            body = _raw_items.decode(answer.content)
            items = [bytes(raw) for raw in _raws.decode(body["items"])]
            found.records.update({str(_bodies.decode(_raw_items.decode(item)["id"])): item for item in items})
            found.positions.append(str(_bodies.decode(body["position"])))
            following = _bodies.decode(body["next_cursor"])
            if following is None:
                return found
            asked["cursor"] = following


@dataclass
class Listed:
    """What a list answered: the status, the records by id as the server's bytes, and the position of each page."""

    status: int
    records: dict[str, bytes] = field(default_factory=dict)
    positions: list[str] = field(default_factory=list)
