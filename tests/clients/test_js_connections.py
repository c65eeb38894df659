"""Our JavaScript client's connection: tokens, transports, silence, limits, feeds that go on from a position."""

import asyncio
import os
import signal

import pytest

from tests.clients.support import begun, both, listed, refreshing, script
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, PATIENCE_S, House

pytestmark = pytest.mark.usefixtures("node")


# Tokens --------------------------------------------------------------------------------------------------------------


@both
async def test_a_token_is_replaced_before_it_expires_and_nothing_is_lost(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=0.07)
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await refreshing(js, me, transport=transport)
        await js.follow("all", posts)
        await js("await S.until(() => S.tokens.filter((one) => one === 'expiring').length >= 2)")
        me = await me.login_again()
        await me.create(posts, title="after two more tokens")
        await js.same("all", await listed(me, posts))
        states = await js("return S.states.map((one) => one.state)")
        assert "waiting" not in states
        if transport == "websocket":
            assert states == ["connecting", "open"], "the fresh token is taken over in place"


@both
async def test_an_expired_token_is_replaced_when_the_client_comes_back(make_house: MakeHouse, transport: str) -> None:
    house = await make_house(ACCESS_TOKEN_EXPIRE_MINUTES=0.02)
    posts = await house.collection("title")
    me = await house.founder()
    bearer = {"authorization": f"Bearer {me.token}"}
    async with asyncio.timeout(PATIENCE_S):
        while (await house.client.get(f"{API}/auth/me", headers=bearer)).is_success:
            pass
    async with script(house.server.base_url) as js:
        await refreshing(js, me, transport=transport)
        await js.follow("all", posts)
        assert (await js("return S.tokens"))[:2] == [None, "token_expired"]
        assert await js("return S.states.slice(0, 2).map((one) => one.state)") == ["connecting", "waiting"]


@both
async def test_a_login_that_ended_stops_the_client_until_the_app_brings_another(house: House, transport: str) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    other = await me.login_again()
    async with script(house.server.base_url) as js:
        await refreshing(js, other, transport=transport)
        await js.follow("all", posts)
        await other.request("POST", "/auth/logout")
        await js("await S.until(() => S.clients.main.state === 'stopped')")
        assert await js("return S.tokens") == [None, "token_revoked"]
        assert await js("return S.errors.at(-1).code") == "token_missing"
        made = await me.create(posts, title="meanwhile")
        await js("S.clients.main.setToken(token)", token=me.token)
        await js.same("all", [made])


@both
@pytest.mark.parametrize("token", ["nonsense", "refresh"])
async def test_a_token_that_never_works_is_said_once_and_not_tried_again(
    house: House, transport: str, token: str
) -> None:
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await js(
            "S.client(options)",
            options={"token": me.refresh_token if token == "refresh" else "x.y.z", "transport": transport},
        )
        await js("void S.follow('all', 'posts'); await S.until(() => S.clients.main.state === 'stopped')")
        assert [one["code"] for one in await js("return S.errors")] == ["token_invalid"]
        assert await js("return S.states.map((one) => one.state)") == ["connecting", "stopped"]


# Connections ---------------------------------------------------------------------------------------------------------


async def test_where_websockets_do_not_get_through_an_event_stream_does(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        # What a proxy that knows no WebSocket does: every handshake fails.
        await js(
            "S.client({ token, transport: 'auto', WebSocket: class extends WebSocket {"
            " constructor(url, p) { super(url.replace('/ws', '/health'), p); } } })",
            token=me.token,
        )
        await js.follow("all", posts)
        assert await js("return S.clients.main.transport") == "sse"
        await js.same("all", [await me.create(posts, title="x")])
        # Another subscription is another stream: nothing is lost between the two.
        await js("void S.follow('more', posts, { sort: 'title' })", posts=posts)
        await me.create(posts, title="y")
        for name, sort in (("all", ""), ("more", "title")):
            await js.same(name, await listed(me, posts, sort=sort))


async def test_without_a_websocket_it_begins_with_an_event_stream(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await js("S.client({ token, WebSocket: undefined })", token=me.token)
        await js.follow("all", posts)
        assert await js("return S.clients.main.transport") == "sse"


@both
async def test_a_server_that_went_silent_is_left_and_found_again(quick_house: House, transport: str) -> None:
    house = quick_house
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        options = {"token": me.token, "transport": transport}
        await js("S.client({ ...options, ...S.counting(WebSocket) })", options=options)
        await js.follow("all", posts)
        # The time between two heartbeats tells how often they come.
        await js("await S.until(() => S.beats >= 3)")
        os.kill(house.server.pid, signal.SIGSTOP)
        try:
            await js(
                "await S.until(() => S.states.some((one) => one.state === 'waiting' && one.error.code === 'timeout'))"
            )
        finally:
            os.kill(house.server.pid, signal.SIGCONT)
        await js.same("all", [await me.create(posts, title="x")])


async def test_a_hundred_subscriptions_fit_and_end_without_breaking_the_servers_limits(house: House) -> None:
    posts = await house.collection("title", {"name": "stars", "type": "number"})
    me = await house.founder()
    long = " || ".join(f"title = 'a title of some length {n}'" for n in range(30))
    async with script(house.server.base_url) as js:
        await begun(js, me)
        await js(
            "await Promise.all(Array.from({ length: 100 }, (_, n) =>"
            " S.listen(`f${n}`, posts, { filter: `stars = ${n} || ${long}` })))",
            posts=posts,
            long=long,
        )
        await me.create_all(posts, *({"title": "x", "stars": n} for n in range(100)))
        await js("for (let n = 0; n < 100; n += 1) await S.heard(`f${n}`, 'event')")
        await js("for (let n = 1; n < 100; n += 1) S.feeds[`f${n}`].feed.unsubscribe()")
        await me.create_all(posts, *({"title": "x", "stars": n} for n in range(100)))
        assert len(await js("return S.heard('f0', 'event', 2)")) == 2
        assert await js("return [S.errors, S.states.map((one) => one.state)]") == [[], ["connecting", "open"]]


@both
async def test_a_feed_goes_on_from_a_position_and_hears_of_what_it_cannot_go_on_from(
    house: House, transport: str
) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    since = (await me.request("GET", f"/records/{posts}")).json()["position"]
    await me.create_all(posts, *({"title": str(n)} for n in range(3)))
    async with script(house.server.base_url) as js:
        await begun(js, me, transport=transport)
        await js(
            "await S.listen('feed', posts, { since, operations: ['create'], fields: ['title'] })",
            posts=posts,
            since=since,
        )
        events = await js("return S.heard('feed', 'event', 3)")
        assert [event["data"]["title"] for event in events] == ["0", "1", "2"]
        await js("await S.heard('feed', 'caughtUp')")
        position = await js("return S.feeds.feed.feed.position")
        assert position == (await me.request("GET", f"/records/{posts}")).json()["position"]
        await js("await S.listen('lost', posts, { since: 'a-position-of-nobody' })", posts=posts)
        [told] = await js("return S.heard('lost', 'resync')")
        assert told["reason"] == "unknown"
        await me.create(posts, title="live")
        assert (await js("return S.heard('lost', 'event')"))[0]["data"]["title"] == "live"


async def test_nobody_holds_a_connection_when_the_last_query_is_closed(house: House) -> None:
    posts = await house.collection("title")
    me = await house.founder()
    async with script(house.server.base_url) as js:
        await begun(js, me)
        await js.follow("all", posts)
        await js("S.queries.all.live.close(); await S.until(() => S.clients.main.state === 'idle')")
        await js.follow("again", posts)
        await js.same("again", [await me.create(posts, title="x")])
