"""Who comes in: nothing of a failed attempt stays, and dead tokens that come back at once are slowed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from snackbase.auth import Claims
from snackbase.errors import OVERLOADED, TOKEN_INVALID, Unauthorized, Unavailable
from snackbase.hub import Refused
from snackbase.hub.admission import Patience
from snackbase.hub.feeds import LiveFeed
from tests.unit.hub.support import House, Person, house, person


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, realtime_max_connections_per_user=1) as made:
        yield made


@pytest.mark.parametrize("failing", [1, 2], ids=["the account acted in", "the own account"])
async def test_a_token_whose_account_could_not_be_followed_ends_for_now_and_leaves_nothing_behind(
    home: House, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    acme, own = await home.account("acme"), await home.account("own")
    root = superadmin(home, of=own, acting_in=acme)
    client = await home.client(None)
    fail(home, monkeypatch, failing)

    client.send(action="auth", token="root")
    await client.until(lambda: client.link.closed is not None)

    assert client.link.closed is OVERLOADED, "a token is not invalid because the store is busy"
    assert (len(home.hub.feeds), home.hub.size) == (0, 0)
    await home.client(root)


async def test_who_went_while_the_own_account_could_not_be_followed_leaves_nothing_behind(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme, own = await home.account("acme"), await home.account("own")
    superadmin(home, of=own, acting_in=acme)
    client = await home.client(None)
    fail(home, monkeypatch, 2, meanwhile=lambda: client.connection.lost(1000, ""))

    client.send(action="auth", token="root")
    for _ in range(10):
        await asyncio.sleep(0)

    assert len(home.hub.feeds) == 0


def superadmin(home: House, *, of: str, acting_in: str) -> Person:
    root = person("root", acting_in, superadmin=True)
    root.claims = Claims(user_id="root", account_id=of, session_id="login of root", expires_at=float("inf"))
    home.people["root"] = root
    return root


def fail(
    home: House, monkeypatch: pytest.MonkeyPatch, call: int, *, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Have one call of `acquire` fail; `meanwhile` happens during the call before it."""
    acquire, calls = home.hub.feeds.acquire, list[str]()

    async def sometimes(account_id: str) -> LiveFeed:
        calls.append(account_id)
        if len(calls) == call:
            raise Unavailable("The head cannot be read now.", code="storage_busy")
        if len(calls) == call - 1:
            meanwhile()
        return await acquire(account_id)

    monkeypatch.setattr(home.hub.feeds, "acquire", sometimes)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


async def _only_good(token: str, account: str | None) -> str:
    if token != "good":
        raise Unauthorized("The login has ended.", code="token_revoked")
    return token


async def refused(patience: Patience[str], token: str) -> None:
    with pytest.raises(Unauthorized):
        await patience.authenticate(token, None)


async def test_a_dead_token_that_comes_back_at_once_waits_longer_and_longer_and_nobody_else_does() -> None:
    clock = Clock()
    patience = Patience(_only_good, now=lambda: clock.now, sleep=clock.sleep)

    for _ in range(2):
        await refused(patience, "dead")
    assert clock.slept == []
    for _ in range(7):
        await refused(patience, "dead")
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    await refused(patience, "another")
    assert await patience.authenticate("good", None) == "good"
    assert len(clock.slept) == 7


async def test_a_client_that_waits_by_itself_is_not_slowed() -> None:
    clock = Clock()
    patience = Patience(_only_good, now=lambda: clock.now, sleep=clock.sleep)

    for _ in range(5):
        await refused(patience, "dead")
        clock.now += 61

    assert clock.slept == []


async def test_who_shares_an_address_with_those_who_were_sent_away_does_not_wait_with_them(home: House) -> None:
    for _ in range(2):
        stranger = await home.client(None)
        stranger.send(action="auth", token="nobody's")
        await stranger.until(lambda stranger=stranger: stranger.link.closed is not None)
        assert stranger.link.closed is TOKEN_INVALID

    with pytest.raises(Refused) as slowed:
        await home.client(None)
    assert slowed.value.error.code == "rate_limited"
    await home.client(person("ann", await home.account("acme")))
