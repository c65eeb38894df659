"""Thousands of messages that a client might send, good, odd and broken, to a hub over a real store: each is answered,
none raises, and what is left in the end is nothing.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.storage.support import creating, deleting, text

from .support import SSE, WEBSOCKET, Client, House, house, person

MESSAGES = 400
COLLECTIONS = ["posts", "notes", "*", "gone", "po sts", "", None, 7]
FILTERS = [None, "title = 'a'", "title ~ 'a%'", "owner = @request.auth.id", "title >", "secret = 1", "x" * 3000, 5]
FIELDS = [None, "*", ["title"], "title, owner", ["nothing"], [], {"a": 1}]
OPERATIONS = [None, ["create"], ["update", "delete"], [], ["drop"], "create", 3]
SINCE = [None, None, None, "", "nonsense", "e-0-0", 9]
SNAPSHOTS = [None, None, None, True, {"limit": 1}, {"limit": 0}, {"sort": "-title"}, {"sort": "nothing"}, "yes"]
IDS = [None, "a", "b", "a" * 64, "a" * 65, "", "ü", 4]


def _request(chance: random.Random) -> dict[str, Any]:
    parts: dict[str, list[Any]] = {
        "collection": COLLECTIONS,
        "filter": FILTERS,
        "fields": FIELDS,
        "operations": OPERATIONS,
        "since": SINCE,
    }
    parts |= {"snapshot": SNAPSHOTS, "id": IDS}
    kept = {name: chance.choice(values) for name, values in parts.items() if chance.random() < 0.45}
    return {"collection": "posts", **kept} if chance.random() < 0.8 else kept


def _message(chance: random.Random) -> bytes:
    action = chance.choice(["subscribe"] * 6 + ["unsubscribe", "unsubscribe", "ping", "auth", "subscirbe", 1])
    message = {"action": action, **_request(chance)}
    if action == "subscribe" and chance.random() < 0.2:
        message = {"action": action, "subscriptions": [_request(chance) for _ in range(chance.randrange(4))]}
    if action == "auth":
        message = {"action": action, "token": chance.choice(["ann", "bob", "nobody", "", 1])}
    payload = json.dumps(message).encode()
    if chance.random() < 0.1:
        at = chance.randrange(len(payload))
        payload = payload[:at] + chance.randbytes(chance.randrange(3)) + payload[at + chance.randrange(2) :]
    return payload


async def _asked(home: House, client: Client, payload: bytes) -> int:
    """Send it and wait for what is said to it; how many messages that were."""
    before = len(client.link.written)
    client.connection.receive(payload)
    if client.connection.inbox is not None:
        await client.until(lambda: client.connection.inbox is None)
    return len(client.link.written) - before


@pytest.mark.parametrize("seed", range(6))
async def test_any_message_is_answered_and_nothing_stays_behind(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    free = {"realtime_messages_per_second": 0, "realtime_heartbeat_seconds": 3600, "realtime_max_subscriptions": 5}
    async with house(tmp_path, **free) as home:
        posts = await home.collection("posts", text("title"), text("owner"))
        await home.collection("notes", text("title"))
        account = await home.account("acme")
        people = [person(name, account) for name in ("ann", "bob")]
        home.people |= {who.claims.user_id: who for who in people}
        clients = [await home.client(who, wire=wire) for who, wire in zip(people, (WEBSOCKET, SSE), strict=True)]
        for number in range(MESSAGES):
            client = chance.choice(clients)
            if client.link.closed is not None:
                assert client.link.closed.code == "bad_request", "twenty in a row that nobody could understand"
                clients[clients.index(client)] = client = await home.client(people[clients.index(client)])
            assert await _asked(home, client, _message(chance)) >= 1
            assert not client.link.aborted, "a defect of ours"
            assert len(client.connection.subscriptions) <= 5
            if number % 20 == 0:
                made = await home.write(account, creating(posts, {"title": "a", "owner": "ann"}))
                await home.write(account, deleting(posts, made.written[0]["id"]))
        for client in clients:
            client.connection.lost(1000, "")
        assert (home.hub.size, home.hub.subscriptions(), len(home.hub.feeds)) == (0, 0, 0)
