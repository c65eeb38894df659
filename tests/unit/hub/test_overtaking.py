"""hub/: reads that take their time. What was read later is never replaced by what was read before it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from snackbase.auth import Claims
from snackbase.model import Principal
from snackbase.storage.base import Control
from tests.unit.hub.support import House, Person, house, person

CHANGED = (Control(what="user_rights", subject="ann"),)


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path) as made:
        yield made


def with_role(who: Person, role: str) -> Person:
    return msgspec.structs.replace(who, principal=msgspec.structs.replace(who.principal, role=role))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_of_two_answers_to_who_somebody_is_the_one_asked_for_later_counts(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await home.account("acme")
    ann = person("ann", account, role="editor")
    client = await home.client(ann)
    answers: list[asyncio.Future[Principal]] = []
    asked = asyncio.Event()

    async def reload(_connection: object) -> Principal:
        answer: asyncio.Future[Principal] = asyncio.get_running_loop().create_future()
        answers.append(answer)
        asked.set()
        return await answer

    monkeypatch.setattr(home.hub.rights, "_reload", reload)
    for _ in range(2):
        asked.clear()
        await home.write(account, controls=CHANGED)
        await asked.wait()

    answers[1].set_result(with_role(ann, "user").principal)
    await asyncio.sleep(0)
    answers[0].set_result(ann.principal)
    await until(lambda: not client.connection.renewals)

    assert client.connection.principal is not None
    assert client.connection.principal.role == "user"


async def test_a_fresh_token_that_was_looked_at_before_rights_changed_does_not_bring_the_old_ones_back(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await home.account("acme")
    ann = person("ann", account, role="editor")
    client = await home.client(ann)
    looked, go_on = asyncio.Event(), asyncio.Event()
    authenticate = home.hub._authenticate

    async def slow(token: str, account: str | None) -> object:
        found = await authenticate(token, account)
        looked.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(home.hub, "_authenticate", slow)
    client.send(action="auth", token="ann")
    await looked.wait()
    home.people["ann"] = with_role(ann, "user")
    await home.write(account, controls=CHANGED)
    await until(lambda: client.connection.principal == home.people["ann"].principal)
    go_on.set()
    await client.until(lambda: client.messages("auth"))

    assert client.connection.principal == home.people["ann"].principal


async def test_a_login_that_ended_while_its_token_was_looked_at_is_not_taken(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await home.account("acme")
    ann = person("ann", account)
    client = await home.client(ann)
    again = msgspec.structs.replace(
        ann, claims=Claims(**{**msgspec.structs.asdict(ann.claims), "session_id": "second"})
    )
    home.people["ann"] = again
    looked, go_on = asyncio.Event(), asyncio.Event()
    authenticate = home.hub._authenticate

    async def slow(token: str, account: str | None) -> object:
        found = await authenticate(token, account)
        looked.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(home.hub, "_authenticate", slow)
    client.send(action="auth", token="ann")
    await looked.wait()
    del home.people["ann"]
    await home.write(account, controls=(Control(what="login_ended", subject="second"),))
    await until(lambda: bool(client.connection.feed.controls))
    go_on.set()
    await client.until(lambda: client.messages("error"))

    assert client.connection.claims == ann.claims
