"""Coming back: every position is honoured completely or refused with its reason (I8), replay and live stream join
without a gap or a repetition, and snapshots fit their stream (I4)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from snackbase import errors
from snackbase.errors import Unavailable
from snackbase.hub import Opening
from snackbase.hub.past import READING
from snackbase.hub.replays import HIGH_WATER
from snackbase.model import Change, Collection, Field, FieldType, Position, Principal
from snackbase.realtime.protocol import ProtocolError, SubscribeRequest
from snackbase.services.reading import Snapshot
from snackbase.storage.base import Control, Query, Window
from tests.storage.support import creating, deleting, text, updating

from .support import OPEN, SSE, WEBSOCKET, Client, FullLink, Gate, House, LineWire, house, person


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[House]:
    async with house(tmp_path, realtime_heartbeat_seconds=3600) as made:
        yield made


class Scene:
    """An account with a collection and some history."""

    def __init__(self, home: House, account: str, posts: Collection) -> None:
        self.home = home
        self.account = account
        self.posts = posts
        self.count = 0

    async def write(self, number: int = 1) -> str:
        """So many creates, one transaction each; the position after them."""
        head = None
        for _ in range(number):
            self.count += 1
            head = (await self.home.write(self.account, creating(self.posts, {"n": self.count}))).head
        assert head is not None
        return self.token(head.seq, head.ts_us)

    def token(self, seq: int, ts_us: int) -> str:
        return self.home.positions.token(self.account, Position(seq, ts_us, self.home.catalog.version))

    async def start(self) -> str:
        """The position before everything."""
        return self.token(0, 0)

    async def since(self, since: str, name: str = "ann", **more: Any) -> Client:
        client = await self.home.client(person(name, self.account), wire=more.pop("wire", WEBSOCKET))
        client.send(action="subscribe", collection="posts", since=since, **more)
        await client.until(lambda: {m["type"] for m in client.messages()} & {"caught_up", "resync", "error"})
        return client


@pytest.fixture
async def scene(home: House) -> Scene:
    posts = await home.collection("posts", Field(name="n", type=FieldType.NUMBER), text("owner"))
    return Scene(home, await home.account("acme"), posts)


def numbers(client: Client) -> list[Any]:
    return [event["data"]["n"] for event in client.events()]


def kinds(client: Client) -> list[str]:
    return [message["type"] for message in client.messages()]


async def test_from_the_exact_head_there_is_nothing_to_replay(scene: Scene) -> None:
    head = await scene.write(3)
    client = await scene.since(head)
    assert kinds(client) == ["subscribed", "caught_up"]
    await scene.write()
    await client.until_types("posts.create")
    assert numbers(client) == [4]


async def test_from_one_behind_one_event_comes_back_then_live(scene: Scene) -> None:
    since = await scene.write(2)
    head = await scene.write()
    client = await scene.since(since)
    assert kinds(client) == ["subscribed", "posts.create", "caught_up"]
    assert client.messages()[0]["position"] == since, "until it caught up, nothing later may be remembered"
    assert client.messages()[-1]["position"] == head
    await scene.write()
    await client.until_types("posts.create")
    assert numbers(client) == [3, 4]


async def test_from_the_beginning_everything_comes_back_in_order_with_the_same_bytes_as_live(scene: Scene) -> None:
    start = await scene.start()
    live = await scene.home.client(person("ann", scene.account))
    live.send(action="subscribe", collection="posts")
    await scene.write(300)
    await live.until(lambda: len(live.events()) == 300)
    client = await scene.since(start)
    assert numbers(client) == list(range(1, 301))
    assert client.events() == live.events()


async def test_an_unreadable_position_is_unknown(scene: Scene) -> None:
    await scene.write()
    for since in ("garbage", "a.b.c", "x" * 200, ""):
        client = await scene.since(since)
        assert client.messages("resync")[0]["reason"] == "unknown"


async def test_a_position_of_another_history_is_epoch(scene: Scene) -> None:
    epoch, rest = (await scene.write()).split(".", 1)
    client = await scene.since(f"zz{epoch}.{rest}")
    assert client.messages("resync")[0]["reason"] == "epoch"


async def test_a_position_ahead_of_the_log_is_ahead(scene: Scene) -> None:
    await scene.write()
    client = await scene.since(scene.token(100, 5))
    assert client.messages("resync")[0]["reason"] == "ahead"


async def test_another_accounts_position_and_a_forked_row_are_unknown(scene: Scene) -> None:
    await scene.write(3)
    other = await scene.home.account("other")
    await scene.home.write(other, creating(scene.posts), creating(scene.posts))
    changes = await scene.home.store.read_changes(other, 0, 10)
    foreign = scene.home.positions.token(other, Position(1, changes[0].ts_us, scene.home.catalog.version))
    beyond = scene.home.positions.token(other, Position(100, changes[0].ts_us, scene.home.catalog.version))
    forked = scene.token(2, 12345)
    head, _, version = (await scene.write()).rpartition(".")
    forged = f"{head}.{int(version, 36) + 1}"
    for since in (foreign, beyond, forked, forged):
        client = await scene.since(since)
        assert kinds(client)[:2] == ["subscribed", "resync"]
        assert client.messages("resync")[0]["reason"] == "unknown"


async def test_after_a_resync_live_events_go_on_from_its_position(scene: Scene) -> None:
    head = await scene.write(2)
    client = await scene.since("garbage")
    assert client.messages("resync")[0]["position"] == head
    await scene.write()
    await client.until_types("posts.create")
    assert numbers(client) == [3]


def prune(folder: Path, account: str, upto: int) -> None:
    """What retention does, by hand."""
    connection = apsw.Connection(str(folder / "snackbase.db"))
    connection.set_busy_timeout(5000)
    number = connection.execute("SELECT num FROM _accounts WHERE id = ?", (account,)).fetchall()[0][0]
    with connection:
        ts_us = connection.execute(
            "SELECT ts_us FROM _changes WHERE account = ? AND seq = ?", (number, upto)
        ).fetchall()
        connection.execute(
            "UPDATE _heads SET floor_seq = ?, floor_ts_us = ? WHERE account = ?", (upto, ts_us[0][0], number)
        )
        connection.execute("DELETE FROM _changes WHERE account = ? AND seq <= ?", (number, upto))
    connection.close()


async def test_the_first_kept_place_can_be_resumed_from_and_the_one_before_is_expired(
    scene: Scene, tmp_path: Path
) -> None:
    positions = [await scene.write() for _ in range(10)]
    prune(tmp_path, scene.account, 5)
    first_kept = await scene.since(positions[4])
    assert numbers(first_kept) == [6, 7, 8, 9, 10]
    before = await scene.since(positions[3])
    assert before.messages("resync")[0]["reason"] == "expired"
    assert before.events() == []


async def test_a_log_pruned_under_a_replay_is_expired_and_live_from_then(scene: Scene, tmp_path: Path) -> None:
    start = await scene.start()
    await scene.write(500)
    client = await scene.home.client(person("ann", scene.account))
    client.link.stuck = 1 << 18
    client.send(action="subscribe", collection="posts", since=start)
    await client.until_types("subscribed")
    prune(tmp_path, scene.account, 450)
    client.link.stuck = 0
    await client.until_types("resync")
    assert client.messages("resync")[0]["reason"] == "expired"
    seen = len(client.events())
    await scene.write()
    await client.until(lambda: len(client.events()) == seen + 1)
    assert numbers(client)[-1] == 501


@pytest.mark.parametrize("wire", [WEBSOCKET, SSE])
async def test_who_was_behind_what_was_pruned_is_told_for_each_subscription_before_the_stream_can_be_resumed(
    scene: Scene, tmp_path: Path, wire: LineWire
) -> None:
    client = await scene.home.client(person("ann", scene.account), wire=wire, subscriptions=3)
    for name in ("a", "b", "c"):
        client.send(action="subscribe", collection="posts", id=name)
    await unheard(scene, tmp_path)
    await client.until(lambda: len(client.messages("resync")) == 3)
    assert [(m["reason"], m["subscription"]) for m in client.messages("resync")] == [
        ("expired", "a"),
        ("expired", "b"),
        ("expired", "c"),
    ]
    told = [line.startswith(b"id ") for line in client.lines() if b'"resync"' in line]
    assert told[:2] == [False, False], "who resumed from there would never be told the third"
    assert told[2]
    await scene.write()
    await client.until(lambda: len(client.events()) == 3)


async def test_what_changed_in_somebodys_rights_is_in_force_also_when_its_row_was_pruned_unread(
    scene: Scene, tmp_path: Path
) -> None:
    gone = await scene.home.client(person("ann", scene.account))
    gone.send(action="subscribe", collection="posts")
    moved = await scene.home.client(person("bob", scene.account))
    moved.send(action="subscribe", collection="posts", filter="@has_role('editor') || n > 1000")
    await moved.until_types("subscribed")
    del scene.home.people["ann"]
    scene.home.people["bob"] = person("bob", scene.account, role="editor")
    await unheard(
        scene,
        tmp_path,
        Control(what="user_disabled", subject="ann"),
        Control(what="user_rights", subject="bob"),
    )
    await gone.until(lambda: gone.link.closed is not None)
    assert gone.link.closed is errors.USER_DISABLED
    await moved.until_types("resync")
    await scene.write()
    await moved.until_types("posts.create")


async def unheard(scene: Scene, folder: Path, *controls: Control) -> None:
    """Ten rows that the hub did not hear of and can no longer read."""
    heard, scene.home.store.on_commit = scene.home.store.on_commit, lambda _changes: None
    if controls:
        await scene.home.write(scene.account, controls=controls)
    await scene.write(10)
    prune(folder, scene.account, 9)
    scene.home.store.on_commit = heard
    await scene.home.hub.feeds.check([scene.account])


async def test_a_stream_that_comes_back_to_a_filter_that_means_nothing_any_more_keeps_its_others(scene: Scene) -> None:
    since = await scene.write()
    await scene.write()
    client = await scene.home.client(person("ann", scene.account), wire=SSE, subscriptions=2)
    asked = [SubscribeRequest(collection="posts", id=name, since=since) for name in ("gone", "here")]
    asked[0] = msgspec.structs.replace(asked[0], filter="dropped = 1")
    with pytest.raises(ProtocolError):
        await scene.home.hub.subscribe_all(client.connection, asked, resuming=False)
    await scene.home.hub.subscribe_all(client.connection, asked, resuming=True)
    await client.until(lambda: client.messages("caught_up"))
    assert [(m["id"], m["reason"]) for m in client.messages("unsubscribed")] == [("gone", "forbidden")]
    assert [(event["subscription"], event["data"]["n"]) for event in client.events()] == [("here", 2)]


@pytest.mark.parametrize("resuming", [False, True])
async def test_a_fault_of_the_store_is_none_of_the_streams_and_passes(scene: Scene, resuming: bool) -> None:
    async def fails(account_id: str, seq: int) -> Window:
        raise Unavailable("The database is away.", code="storage_busy", retry_after_s=1)

    asked = SubscribeRequest(collection="posts", since=await scene.write())
    scene.home.store.window = fails  # type: ignore[method-assign]  # for a moment
    client = await scene.home.client(person("ann", scene.account), wire=SSE, subscriptions=1)
    with pytest.raises(ProtocolError) as refused:
        await scene.home.hub.subscribe_all(client.connection, [asked], resuming=resuming)
    assert (refused.value.over_http().status, refused.value.over_http().code) == (503, "storage_busy")
    assert client.messages("unsubscribed") == []


@pytest.mark.parametrize("since", [False, True])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"collection": "no-name"}, "collection_not_found"),
        ({"collection": "posts", "filter": "n = 1 || " * 300 + "n = 2"}, "invalid_filter"),
        ({"collection": "posts", "operations": ["created"]}, "invalid_operations"),
        ({"collection": "posts", "operations": []}, "invalid_operations"),
        ({"collection": "posts", "snapshot": True, "since": "x"}, "invalid_message"),
    ],
)
async def test_one_subscription_that_cannot_be_right_takes_none_of_its_message_with_it(
    scene: Scene, wrong: dict[str, Any], code: str, since: bool
) -> None:
    place = {"since": await scene.write()} if since else {}
    client = await scene.home.client(person("ann", scene.account))
    asked = [{"collection": "posts", "id": "first"}, {**wrong, "id": "wrong"}, {"collection": "posts", "id": "last"}]
    client.send(action="subscribe", subscriptions=[place | one for one in asked])
    await client.until(lambda: len(client.messages("error", "subscribed")) == 3)
    told = [(m["type"], m["id"], m.get("code")) for m in client.messages("error", "subscribed")]
    assert told == [("subscribed", "first", None), ("error", "wrong", code), ("subscribed", "last", None)]
    await scene.write()
    await client.until(lambda: len(client.events()) == 2)


async def test_live_events_do_not_wait_for_a_message_that_is_still_being_served(scene: Scene) -> None:
    await scene.home.collection("notes")
    gate = Gate()
    gate.shut()

    @scene.home.hooks.on_realtime_subscribe(collection="notes")
    async def waits() -> None:
        await gate.passed()

    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", subscriptions=[{"collection": "posts"}, {"collection": "notes"}])
    await gate.met.wait()
    await scene.write()
    await client.until_types("subscribed", "posts.create")
    gate.open()
    await client.until_types("subscribed")


async def test_a_collection_deleted_during_its_replay_is_told_and_the_others_live_on(scene: Scene) -> None:
    notes = await scene.home.collection("notes", text("title"))
    start = await scene.start()
    await scene.write(100)
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="notes")
    client.link.stuck = 1 << 18
    client.send(action="subscribe", collection="posts", since=start)
    await client.until_types("subscribed", "subscribed")
    await scene.home.drop(scene.posts)
    await client.until_types("unsubscribed")
    assert client.messages("unsubscribed")[0]["reason"] == "collection_deleted"
    await scene.home.write(scene.account, creating(notes, {"title": "x"}))
    await client.until_types("notes.create")


async def test_a_client_whose_message_meets_a_defect_is_cut_off_and_not_left_waiting(scene: Scene) -> None:
    async def fails(*_asked: object) -> None:
        raise RuntimeError("a defect of ours")

    scene.home.hub._past.resume = fails  # type: ignore[method-assign,assignment]  # what it never does
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="posts", since=await scene.start())
    await client.until(lambda: client.link.aborted)
    assert scene.home.hub.size == 0


async def test_rules_changed_since_are_rights_and_nothing_is_replayed(scene: Scene) -> None:
    since = await scene.write(2)
    await scene.write(2)
    rules = type(OPEN)(list_rule="n > 1", view_rule="", create_rule="", update_rule="", delete_rule="")
    scene.posts = await scene.home.alter(scene.posts, rules=rules)
    client = await scene.since(since)
    assert kinds(client) == ["subscribed", "resync"]
    assert client.messages("resync")[0]["reason"] == "rights"


async def test_altered_rows_since_are_schema_and_a_field_without_default_is_nothing(scene: Scene) -> None:
    start = await scene.start()
    await scene.write()
    scene.posts = await scene.home.alter(scene.posts, fields=(*scene.posts.fields, text("more")))
    client = await scene.since(start)
    (event,) = client.events()
    assert event["data"]["more"] is None, "all fields are present"
    extra = Field(name="extra", type=FieldType.NUMBER, default=1)
    scene.posts = await scene.home.alter(scene.posts, fields=(*scene.posts.fields, extra))
    client = await scene.since(start)
    assert client.messages("resync")[0]["reason"] == "schema"


async def test_a_new_collection_of_an_old_name_never_replays_the_old_ones_records(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(3)
    await scene.home.drop(scene.posts)
    scene.posts = await scene.home.collection("posts", Field(name="n", type=FieldType.NUMBER))
    client = await scene.since(start)
    assert kinds(client) == ["subscribed", "resync"]
    assert client.messages("resync")[0]["reason"] == "schema"


async def test_ones_own_rights_changed_since_are_rights_only_where_they_matter(scene: Scene) -> None:
    since = await scene.write()
    await scene.home.write(scene.account, controls=(Control(what="user_rights", subject="ann"),))
    await scene.write()
    plain = await scene.since(since)
    assert kinds(plain) == ["subscribed", "posts.create", "caught_up"]
    concerned = await scene.since(since, filter="@has_role('editor') || n > 0")
    assert concerned.messages("resync")[0]["reason"] == "rights"
    other = await scene.since(since, "bob", filter="@has_role('editor') || n > 0")
    assert kinds(other) == ["subscribed", "posts.create", "caught_up"]


async def test_a_transaction_is_replayed_whole_or_not_at_all(scene: Scene) -> None:
    since = await scene.write()
    many = [creating(scene.posts, {"n": n}) for n in range(2, 502)]
    await scene.home.write(scene.account, *many)
    await scene.write()
    client = await scene.since(since)
    events = client.events()
    assert len(events) == 501
    assert [e.get("tx_size") for e in events[:500]] == [500] * 500
    assert [n for n, e in enumerate(events) if "position" in e] == [499, 500], "nobody resumes inside a transaction"


async def test_enter_and_leave_are_decided_on_replay_as_they_are_live(scene: Scene) -> None:
    start = await scene.start()
    live = await scene.home.client(person("ann", scene.account))
    live.send(action="subscribe", collection="posts", filter="n > 5")
    made = await scene.home.write(scene.account, creating(scene.posts, {"n": 1}))
    record = made.written[0]["id"]
    for number in (6, 7, 2):
        await scene.home.write(scene.account, updating(scene.posts, record, {"n": number}))
    await scene.home.write(scene.account, updating(scene.posts, record, {"n": 9}))
    await scene.home.write(scene.account, deleting(scene.posts, record))
    await live.until(lambda: len(live.events()) == 5)
    client = await scene.since(start, filter="n > 5")
    assert client.events() == live.events()
    assert [(e["type"][6:], e.get("change")) for e in client.events()] == [
        ("create", "enter"),
        ("update", None),
        ("delete", "leave"),
        ("create", "enter"),
        ("delete", None),
    ]


async def test_replay_under_full_write_load_joins_without_gap_or_repetition(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(400)
    done = asyncio.Event()

    async def writer() -> None:
        while not done.is_set():
            await asyncio.gather(*(scene.write() for _ in range(8)))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer())
        clients = [await scene.since(start, f"user{n}") for n in range(8)]
        reached = scene.count
        for client in clients:
            await client.until(lambda client=client: len(client.events()) > reached)
        done.set()
    last = scene.count
    for client in clients:
        await client.until(lambda client=client: len(client.events()) >= last)
        positions = [scene.home.positions.parse(e["position"]) for e in client.events()]
        assert [p.seq for p in positions if p is not None] == list(range(1, last + 1))


async def test_many_who_resume_at_once_share_the_reading_of_the_log(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(1000)
    read = 0
    plain = scene.home.store.read_changes

    async def counted(account_id: str, after: int, limit: int) -> list[Change]:
        nonlocal read
        rows = await plain(account_id, after, limit)
        read += len(rows)
        return rows

    scene.home.hub._passages._read = counted
    clients = []
    for number in range(50):
        client = await scene.home.client(person(f"user{number}", scene.account))
        client.send(action="subscribe", collection="posts", since=start)
        clients.append(client)
    for client in clients:
        await client.until_types("caught_up")
        assert numbers(client) == list(range(1, 1001))
    assert read <= 3000
    frames = {id(line) for client in clients for line in client.link.written}
    assert len(frames) < 1000 + 50 * 5, "equal events are the same bytes object"


async def test_several_subscriptions_are_replayed_as_one_in_the_order_of_the_log(scene: Scene) -> None:
    notes = await scene.home.collection("notes", Field(name="n", type=FieldType.NUMBER))
    start = await scene.start()
    for number in range(1, 21):
        await scene.home.write(scene.account, creating(notes if number % 3 else scene.posts, {"n": number}))
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", since=start, subscriptions=[{"collection": "posts"}, {"collection": "notes"}])
    await client.until_types("caught_up", "caught_up")
    assert kinds(client)[:2] == ["subscribed", "subscribed"]
    assert numbers(client) == list(range(1, 21))


async def test_who_was_further_at_another_node_waits_until_this_one_is_there(scene: Scene) -> None:
    behind = await scene.write(2)
    live = await scene.home.client(person("bob", scene.account))
    live.send(action="subscribe", collection="posts")
    await live.until_types("subscribed")
    deliver, scene.home.store.on_commit = scene.home.store.on_commit, lambda _changes: None
    ahead = await scene.write(3)
    scene.home.store.on_commit = deliver

    client = await scene.home.client(person("ann", scene.account))
    both = [
        {"collection": "posts", "id": name, "since": since} for name, since in (("behind", behind), ("ahead", ahead))
    ]
    client.send(action="subscribe", subscriptions=both)
    await client.until(lambda: len(client.messages("caught_up")) == 2)
    await scene.write()
    await client.until(lambda: [event["data"]["n"] for event in client.events()].count(6) == 2)

    assert [message["position"] for message in client.messages("caught_up")] == [ahead, ahead]
    heard = [(event["subscription"], event["data"]["n"]) for event in client.events()]
    assert heard == [("behind", 3), ("behind", 4), ("behind", 5), ("behind", 6), ("ahead", 6)]


async def test_one_list_over_everything_resumes_and_is_schema_when_collections_changed(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(2)
    for reason in (None, "schema"):
        client = await scene.home.client(person("ann", scene.account))
        client.send(action="subscribe", collection="*", since=start)
        await client.until(lambda client=client: {"caught_up", "resync"} & set(kinds(client)))
        if reason is None:
            assert [e["subscription"] for e in client.events()] == ["*", "*"]
            await scene.home.collection("extra")
        else:
            assert client.messages("resync")[0]["reason"] == reason


@pytest.mark.parametrize("asked", [("*", "posts"), ("posts", "*")])
async def test_on_a_replay_too_an_unnamed_subscription_takes_precedence_over_everything(
    scene: Scene, asked: tuple[str, str]
) -> None:
    notes = await scene.home.collection("notes", Field(name="n", type=FieldType.NUMBER))
    start = await scene.start()
    for number in range(1, 9):
        await scene.home.write(scene.account, creating(notes if number % 2 else scene.posts, {"n": number}))
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", since=start, subscriptions=[{"collection": name} for name in asked])
    await client.until_types("caught_up", "caught_up")
    heard = [(event["type"], event.get("subscription"), event["data"]["n"]) for event in client.events()]
    assert heard == [("notes.create", "*", n) if n % 2 else ("posts.create", None, n) for n in range(1, 9)]


async def test_who_polls_for_a_collection_and_for_everything_gets_each_event_once(scene: Scene) -> None:
    notes = await scene.home.collection("notes", Field(name="n", type=FieldType.NUMBER))
    start = await scene.start()
    for number in range(1, 5):
        await scene.home.write(scene.account, creating(notes if number % 2 else scene.posts, {"n": number}))
    asked = [SubscribeRequest(collection=name) for name in ("*", "posts")]
    principal = person("ann", scene.account).principal
    polled = await scene.home.hub.polling.changes(principal, asked, since=start, limit=100)
    heard = [(event["type"], event.get("subscription")) for event in map(msgspec.json.decode, polled.events)]
    assert heard == [("notes.create", "*"), ("posts.create", None)] * 2


async def test_what_an_unsubscribed_collection_writes_comes_by_everything_that_is_still_replayed(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(100)
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="posts")
    client.link.stuck = 1 << 18
    client.send(action="subscribe", collection="*", since=start)
    await client.until(lambda: len(client.messages("subscribed")) == 2)
    client.send(action="unsubscribe", collection="posts")
    await scene.write()
    client.link.stuck = 0
    await client.until_types("caught_up")
    assert numbers(client)[-1] == 101


async def test_unsubscribing_or_replacing_during_a_replay_ends_it(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(300)
    client = await scene.home.client(person("ann", scene.account))
    client.link.stuck = 1 << 18
    client.send(action="subscribe", collection="posts", since=start)
    await client.until_types("subscribed")
    client.send(action="unsubscribe", collection="posts")
    client.link.stuck = 0
    client.send(action="subscribe", collection="posts", operations=["delete"])
    await scene.write()
    client.send(action="ping")
    await client.until_types("pong")
    assert client.events() == []
    assert client.connection.held == 0
    assert len(client.connection.subscriptions) == 1


async def test_a_rule_changed_during_a_replay_is_a_resync_and_nothing_more_is_replayed(scene: Scene) -> None:
    start = await scene.start()
    await scene.write(300)
    client = await scene.home.client(person("ann", scene.account))
    client.link.stuck = 1 << 18
    client.send(action="subscribe", collection="posts", since=start)
    await client.until_types("subscribed")
    rules = type(OPEN)(list_rule="n > 300", view_rule="", create_rule="", update_rule="", delete_rule="")
    scene.posts = await scene.home.alter(scene.posts, rules=rules)
    client.link.stuck = 0
    await client.until_types("resync")
    await scene.write()
    await client.until_types("posts.create")
    assert numbers(client) == [301]
    assert client.connection.held == 0


async def test_heartbeats_during_a_replay_carry_its_place_and_do_not_move_a_streams_resume_point(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, realtime_heartbeat_seconds=0.2) as home:
        posts = await home.collection("posts", Field(name="n", type=FieldType.NUMBER))
        scene = Scene(home, await home.account("acme"), posts)
        start = await scene.start()
        await scene.write(50)
        client = await home.client(person("ann", scene.account), wire=SSE)
        client.link.stuck = 1 << 18
        client.send(action="subscribe", collection="posts", since=start)
        await client.until_types("heartbeat")
        assert client.messages("heartbeat")[0]["position"] == start
        assert not client.lines()[-1].startswith(b"id ")
        client.link.stuck = 0
        await client.until(lambda: "caught_up" in kinds(client))
        await client.until_types("heartbeat")
        assert client.lines()[-1].startswith(b"id ")


async def test_a_snapshot_is_the_list_and_what_commits_later_follows_it(scene: Scene) -> None:
    await scene.write(25)
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="posts", snapshot={"sort": "n", "limit": 10}, filter="n <= 22 || n > 25")
    await client.until(lambda: "caught_up" in kinds(client))
    assert kinds(client) == ["subscribed", "snapshot", "snapshot", "snapshot", "caught_up"]
    pages = client.messages("snapshot")
    assert [page["complete"] for page in pages] == [False, False, True]
    assert [record["n"] for page in pages for record in page["data"]] == list(range(1, 23))
    await scene.write()
    await client.until_types("posts.create")
    assert numbers(client) == [26]


async def test_no_set_is_read_for_who_gave_up_waiting_for_it(scene: Scene) -> None:
    read: list[str | None] = []
    full = asyncio.Event()
    plain = scene.home.records.snapshot

    async def counted(principal: Principal, request: SubscribeRequest, sort: str, most: int) -> Snapshot:
        read.append(principal.actor_id)
        if len(read) == READING - 1:
            full.set()
        return await plain(principal, request, sort, most)

    scene.home.records.snapshot = counted  # type: ignore[method-assign]  # who it is read for
    scene.home.read.shut()
    names = ["ann", "bob", "cid", "dan", "eve"]
    clients = {name: await scene.home.client(person(name, scene.account)) for name in names}
    for client in clients.values():
        client.send(action="subscribe", collection="posts", snapshot=True)
    await full.wait()
    clients["dan"].connection.lost(1006, "")
    scene.home.read.open()
    await clients["eve"].until_types("caught_up")
    assert read == ["ann", "bob", "cid", "eve"]


async def test_an_empty_set_is_one_complete_page(scene: Scene) -> None:
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="posts", snapshot=True)
    await client.until_types("caught_up")
    assert [(page["data"], page["complete"]) for page in client.messages("snapshot")] == [([], True)]


async def test_snapshot_and_stream_fit_under_full_write_load(scene: Scene) -> None:
    made = await scene.home.write(scene.account, *(creating(scene.posts, {"n": 0}) for _ in range(30)))
    ids = [record["id"] for record in made.written]
    done = asyncio.Event()

    async def writer(part: list[str]) -> None:
        number = 0
        while not done.is_set():
            for record_id in part:
                number += 1
                await scene.home.write(scene.account, updating(scene.posts, record_id, {"n": number}))

    held: list[dict[str, Any]] = []
    async with asyncio.TaskGroup() as tasks:
        for start in range(3):
            tasks.create_task(writer(ids[start::3]))
        clients = []
        for number in range(20):
            client = await scene.home.client(person(f"user{number}", scene.account))
            client.send(action="subscribe", collection="posts", snapshot=True)
            await client.until(lambda client=client: "caught_up" in kinds(client))
            clients.append(client)
        done.set()
    query = Query(collection=scene.posts, account_id=scene.account, limit=100)
    page = await scene.home.store.list(query)
    truth = {record["id"]: record for record in page.items}
    for client in clients:
        await client.until(lambda client=client: _list(client) == truth)
        held.append(_list(client))
    assert len(held) == 20


def _list(client: Client) -> dict[str, Any]:
    """What a client that applies snapshot and events holds."""
    records = {record["id"]: record for page in client.messages("snapshot") for record in page["data"]}
    for event in client.events():
        records[event["data"]["id"]] = event["data"]
    return records


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"snapshot": {"limit": 0}}, "invalid_message"),
        ({"snapshot": {"sort": "nope"}}, "invalid_sort"),
        ({"snapshot": True, "filter": "nope = 1"}, "invalid_filter"),
        ({"snapshot": True, "collection": "*"}, "invalid_message"),
    ],
)
async def test_a_snapshot_that_cannot_be_is_refused(scene: Scene, request_: dict[str, Any], code: str) -> None:
    client = await scene.home.client(person("ann", scene.account))
    client.send(**{"action": "subscribe", "collection": "posts", **request_})
    await client.until_types("error")
    assert client.messages()[-1]["code"] == code
    assert client.connection.subscriptions == {}
    assert client.connection.held == 0


async def test_what_many_subscriptions_of_a_connection_missed_of_a_large_record_comes_a_few_at_a_time(
    scene: Scene,
) -> None:
    start = await scene.start()
    await scene.home.write(scene.account, creating(scene.posts, {"n": 1, "owner": "x" * 100_000}))
    client = await scene.home.client(person("ann", scene.account))
    link = client.link = client.connection.link = FullLink(WEBSOCKET)
    wanted = [{"collection": "posts", "id": f"s{number}"} for number in range(5)]
    client.send(action="subscribe", since=start, subscriptions=wanted)
    for told in range(1, 6):
        await client.until(lambda told=told: len(client.events()) >= told)
        assert len(client.events()) == told
        assert client.messages("caught_up") == []
        link.stuck = 0
    await client.until(lambda: len(client.messages("caught_up")) == 5)
    assert [event["subscription"] for event in client.events()] == [f"s{number}" for number in range(5)]


async def stream_in_pieces(scene: Scene) -> tuple[Client, FullLink]:
    """A stream of two subscriptions, of which the first was told of a large record."""
    start = await scene.start()
    await scene.home.write(scene.account, *(creating(scene.posts, {"n": n, "owner": "x" * 100_000}) for n in (1, 2)))
    ann = scene.home.people["ann"] = person("ann", scene.account)
    connection = await scene.home.hub.open(Opening(wire=SSE, address="x", authenticated=ann, subscriptions=2))
    requests = [SubscribeRequest(collection="posts", id=name, since=start) for name in ("one", "two")]
    await scene.home.hub.subscribe_all(connection, requests, resuming=False)
    link = FullLink(SSE)
    client = Client(connection, link)
    connection.attach(link)
    await client.until(lambda: len(client.events()) == 1)
    return client, link


async def test_a_stream_that_is_told_in_pieces_is_a_resume_point_after_the_last_one_only(scene: Scene) -> None:
    client, link = await stream_in_pieces(scene)
    link.stuck = 0
    await client.until(lambda: len(client.events()) == 4)
    events = [line for line in client.lines() if b'"posts.create"' in line]
    assert [line.startswith(b"id ") for line in events] == [False, False, False, True]
    heard = [(event["subscription"], event["data"]["n"]) for event in client.events()]
    assert heard == [("one", 1), ("one", 2), ("two", 1), ("two", 2)]


async def large_set(scene: Scene) -> None:
    """5 MB: two of them are more than a connection may have waiting."""
    for _ in range(5):
        long = [creating(scene.posts, {"n": 1, "owner": "x" * 100_000}) for _ in range(10)]
        await scene.home.write(scene.account, *long)


async def test_a_connection_that_does_not_read_has_few_sets_waiting_however_many_it_asks_for(scene: Scene) -> None:
    await large_set(scene)
    stuck, quick = [await scene.home.client(person(name, scene.account)) for name in ("ann", "bob")]
    stuck.link.stuck = HIGH_WATER + 1
    for number in range(4):
        stuck.send(action="subscribe", collection="posts", id=f"s{number}", snapshot=True)
    await stuck.until(lambda: len(stuck.messages("subscribed")) == 2)
    quick.send(action="subscribe", collection="posts", snapshot=True)
    await quick.until_types("caught_up")

    assert len(stuck.messages("subscribed")) == 2
    assert stuck.messages("snapshot") == []
    stuck.link.stuck = 0
    await stuck.until(lambda: len(stuck.messages("caught_up")) == 4)
    assert [len(page["data"]) for page in stuck.messages("snapshot")] == [50] * 4
    assert scene.home.hub.delivery.owed(stuck.connection) == 0


async def test_the_sets_of_one_stream_are_bounded_together(scene: Scene) -> None:
    await large_set(scene)
    ann = scene.home.people["ann"] = person("ann", scene.account)
    connection = await scene.home.hub.open(Opening(wire=SSE, address="x", authenticated=ann, subscriptions=3))
    requests = [SubscribeRequest(collection="posts", id=f"s{number}", snapshot=True) for number in range(3)]

    with pytest.raises(ProtocolError) as refused:
        await scene.home.hub.subscribe_all(connection, requests, resuming=False)

    assert refused.value.code == "snapshot_too_large"
    connection.lost(None, "")


async def test_sets_that_wait_count_against_what_the_process_keeps_unsent(tmp_path: Path) -> None:
    settings = {"realtime_outbox_total_bytes": 1 << 20, "realtime_stall_seconds": 3600}
    async with house(tmp_path, realtime_heartbeat_seconds=3600, **settings) as home:
        posts = await home.collection("posts", Field(name="n", type=FieldType.NUMBER), text("owner"))
        scene = Scene(home, await home.account("acme"), posts)
        await large_set(scene)
        client = await home.client(person("ann", scene.account))
        client.link.stuck = HIGH_WATER + 1
        client.send(action="subscribe", collection="posts", snapshot=True)
        await client.until(lambda: client.link.aborted)
        assert client.link.closed is errors.SLOW_CONSUMER


async def test_a_set_over_10_000_records_is_too_large_for_a_snapshot(scene: Scene) -> None:
    for _ in range(11):
        await scene.home.write(scene.account, *(creating(scene.posts, {"n": 0}) for _ in range(1000)))
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="posts", snapshot=True)
    await client.until_types("error")
    assert client.messages()[-1]["code"] == "snapshot_too_large"


@pytest.mark.parametrize(("records", "too_large"), [(15, False), (18, True)], ids=["7.5 MB", "9 MB"])
async def test_a_set_over_8_mb_is_too_large_for_a_snapshot(scene: Scene, records: int, too_large: bool) -> None:
    await scene.home.write(scene.account, *(creating(scene.posts, {"owner": "x" * 500_000}) for _ in range(records)))
    client = await scene.home.client(person("ann", scene.account))
    client.send(action="subscribe", collection="posts", snapshot={"limit": 5})
    await client.until(lambda: {m["type"] for m in client.messages()} & {"caught_up", "error"})
    assert [m["code"] for m in client.messages("error")] == ["snapshot_too_large"] * too_large
    assert len(client.messages("snapshot")) == (0 if too_large else 3)
