"""realtime/fanout.py: a subscription is a list that stays current; one judgement and one encoding per group."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snackbase.metrics import Counters
from snackbase.model import Change, Head, Op
from snackbase.realtime.fanout import CREATE, DELETE, UPDATE, Feed
from snackbase.realtime.groups import IndexedOn, Predicate, View
from snackbase.realtime.link import Wire

ALL = CREATE | UPDATE | DELETE


class PlainWire:
    """The simplest wire: a line a message, marked when it moves the resume point."""

    def __init__(self, name: str) -> None:
        self.name = name

    def message(self, payload: bytes) -> bytes:
        return payload + b"\n"

    def resumable(self, payload: bytes, position: bytes) -> bytes:
        return b"id " + position + b" " + payload + b"\n"


WIRE = PlainWire("websocket")
STREAM = PlainWire("sse")


class Client:
    """A member that remembers what it got."""

    def __init__(self, wire: Wire = WIRE, *, stages: bool = False) -> None:
        self.wire: Wire = wire
        self.out: tuple[bytes, ...] = ()
        self.queued = False
        self.staged: list[bytes] | None = [] if stages else None
        self.held = 0

    def lines(self) -> list[bytes]:
        return b"".join(self.out).splitlines()

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line[line.index(b"{") :]) for line in self.lines()]


class Log:
    """Makes the changes that a store would commit."""

    def __init__(self) -> None:
        self.seq = 0
        self.records: dict[str, dict[str, Any]] = {}

    def change(self, op: Op, record_id: str, values: Mapping[str, Any] | None = None, **more: Any) -> Change:
        self.seq += 1
        before = self.records.get(record_id)
        data = dict(before or {"id": record_id})
        prev = None
        if op is Op.UPDATE:
            assert before is not None
            prev = {name: before.get(name) for name in values or {}}
        data.update(values or {})
        if op is Op.DELETE:
            del self.records[record_id]
        else:
            self.records[record_id] = data
        facts = {"collection_id": "c1", "tx_id": f"t{self.seq}", **more}
        return Change(
            account_id="a",
            seq=self.seq,
            ts_us=1_700_000_000_000_000 + self.seq,
            op=op,
            schema_version=0,
            record_id=record_id,
            data=data,
            prev=prev,
            raw=msgspec.json.encode(data),
            **facts,
        )


def view(
    sees: Predicate | None = None,
    *,
    key: str = "all",
    fields: tuple[str, ...] | None = None,
    index: IndexedOn | None = None,
    collection: str = "posts",
    collection_id: str = "c1",
) -> View:
    return View(
        collection_id=collection_id,
        collection=collection,
        key=(collection_id, key, fields),
        sees=sees,
        fields=fields,
        index=index,
    )


def published(record: Mapping[str, Any]) -> bool:
    return record.get("status") == "published"


def route(feed: Feed, *changes: Change) -> list[Any]:
    dirty: list[Any] = []
    feed.route(changes, f"p{changes[-1].seq}", dirty)
    return dirty


@pytest.fixture
def feed() -> Feed:
    return Feed("a", Head(0, 0), Counters())


def test_an_event_has_the_form_of_the_contract(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(), bits=ALL, name=None)
    assert route(feed, log.change(Op.CREATE, "r1", {"title": "New Post"})) == [client]
    assert client.messages() == [
        {
            "type": "posts.create",
            "timestamp": "2023-11-14T22:13:20.000Z",
            "position": "p1",
            "data": {"id": "r1", "title": "New Post"},
        }
    ]


def test_a_record_that_starts_to_match_is_created_and_one_that_stops_is_deleted_with_its_id_alone(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(published, key="published"), bits=ALL, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"status": "draft", "secret": "s"}))
    assert client.messages() == []
    route(feed, log.change(Op.UPDATE, "r1", {"status": "published"}))
    route(feed, log.change(Op.UPDATE, "r1", {"title": "t"}))
    route(feed, log.change(Op.UPDATE, "r1", {"status": "draft"}))
    route(feed, log.change(Op.DELETE, "r1"))
    assert [(m["type"], m.get("change")) for m in client.messages()] == [
        ("posts.create", "enter"),
        ("posts.update", None),
        ("posts.delete", "leave"),
    ]
    assert client.messages()[2]["data"] == {"id": "r1"}


def test_a_deleted_record_shows_its_last_state_to_those_who_could_see_it(feed: Feed) -> None:
    sees, blind, log = Client(), Client(), Log()
    feed.join(sees, view(published, key="published"), bits=ALL, name=None)
    feed.join(blind, view(lambda record: False, key="never"), bits=ALL, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"status": "published", "n": 1}))
    route(feed, log.change(Op.DELETE, "r1"))
    assert sees.messages()[1]["data"] == {"id": "r1", "status": "published", "n": 1}
    assert blind.out == ()


def test_operations_filter_on_the_delivered_operation(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(published, key="published"), bits=CREATE, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"status": "draft"}))
    route(feed, log.change(Op.UPDATE, "r1", {"status": "published"}))
    route(feed, log.change(Op.UPDATE, "r1", {"status": "draft"}))
    assert [m["type"] for m in client.messages()] == ["posts.create"]


def test_fields_cut_the_data_but_never_the_membership(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(published, key="published", fields=("id", "title")), bits=ALL, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"status": "published", "title": "t"}))
    route(feed, log.change(Op.UPDATE, "r1", {"other": 1}))
    assert [m["data"] for m in client.messages()] == [{"id": "r1", "title": "t"}] * 2


def test_a_row_from_before_a_field_was_dropped_and_another_added_shows_the_fields_of_today(feed: Feed) -> None:
    """As many fields as today are not the fields of today: a change that was read late would show a dropped one."""
    client, log = Client(), Log()
    today = View(collection_id="c1", collection="posts", key=("c1", "all", None), sees=None, names=("id", "new"))
    feed.join(client, today, bits=CREATE, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"dropped": "secret"}))

    assert client.messages()[0]["data"] == {"id": "r1", "new": None}


def test_members_who_wait_for_the_same_events_share_one_outbox(feed: Feed) -> None:
    log, clients = Log(), [Client() for _ in range(4)]
    for client in clients:
        feed.join(client, view(), bits=ALL, name=None)
    apart = clients[3]
    apart.out += (b"heartbeat",)
    for number in range(3):
        route(feed, log.change(Op.CREATE, f"r{number}"))

    assert all(client.out is clients[0].out for client in clients[:3])
    assert apart.out == (b"heartbeat", *clients[0].out)


def test_the_members_of_a_group_get_the_very_same_bytes_object(feed: Feed) -> None:
    log, clients = Log(), [Client() for _ in range(3)]
    for client in clients:
        feed.join(client, view(), bits=ALL, name=None)
    route(feed, log.change(Op.CREATE, "r1"))
    assert len({id(client.out[0]) for client in clients}) == 1
    assert feed.tally.deliveries == {"websocket": 3}
    assert (feed.tally.encodings, feed.tally.events) == (1, {"create": 1})
    assert len(list(feed.groups())) == 1


def test_the_changes_of_a_transaction_come_together_counted_per_subscription_and_only_the_last_has_a_position(
    feed: Feed,
) -> None:
    every, some, log = Client(), Client(), Log()
    feed.join(every, view(), bits=ALL, name=None)
    feed.join(some, view(published, key="published"), bits=ALL, name=None)
    route(
        feed,
        log.change(Op.CREATE, "r1", {"status": "published"}, tx_id="t", tx_index=0, tx_size=3),
        log.change(Op.CREATE, "r2", {"status": "published"}, tx_id="t", tx_index=1, tx_size=3),
        log.change(Op.CREATE, "r3", {"status": "draft"}, tx_id="t", tx_index=2, tx_size=3),
    )
    assert [(m["tx"], m["tx_size"], m.get("position")) for m in every.messages()] == [
        ("t", 3, None),
        ("t", 3, None),
        ("t", 3, "p3"),
    ]
    assert [(m["tx_size"], m.get("position")) for m in some.messages()] == [(2, None), (2, "p3")]
    assert len(every.out) == 1, "one write"


def test_a_transaction_of_which_one_event_is_seen_looks_like_a_single_change(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(published, key="published"), bits=ALL, name=None)
    route(
        feed,
        log.change(Op.CREATE, "r1", {"status": "published"}, tx_id="t", tx_index=0, tx_size=2),
        log.change(Op.CREATE, "r2", {"status": "draft"}, tx_id="t", tx_index=1, tx_size=2),
    )
    (message,) = client.messages()
    assert "tx" not in message
    assert message["position"] == "p2"


def test_named_subscriptions_of_one_collection_each_get_their_own_event(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(), bits=ALL, name=None)
    feed.join(client, view(), bits=ALL, name="mine")
    route(feed, log.change(Op.CREATE, "r1"))
    assert [m.get("subscription") for m in client.messages()] == [None, "mine"]


def test_of_one_transaction_only_so_much_is_made_and_who_got_nothing_is_known(
    feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snackbase.realtime.fanout.MOST_MADE", 1000)
    clients, log = [Client() for _ in range(4)], Log()
    for number, client in enumerate(clients):
        feed.join(client, view(), bits=ALL, name=f"name{number}")
    route(feed, log.change(Op.CREATE, "r1", {"title": "x" * 600}))
    assert [len(client.messages()) for client in clients] == [1, 1, 0, 0]
    assert feed.left_out == clients[2:]
    feed.left_out.clear()
    route(feed, log.change(Op.CREATE, "r2", {"title": "x"}))
    assert [len(client.messages()) for client in clients] == [2, 2, 1, 1]
    assert feed.left_out == []


def test_a_stream_of_several_subscriptions_is_resumed_only_after_the_last_event_of_a_change(feed: Feed) -> None:
    client, log = Client(STREAM, stages=True), Log()
    feed.join(client, view(), bits=ALL, name="a")
    feed.join(client, view(published, key="published"), bits=ALL, name="b")
    route(feed, log.change(Op.CREATE, "r1", {"status": "published"}))
    assert [line.startswith(b"id p1 ") for line in client.lines()] == [False, True]


def test_a_stream_with_a_held_subscription_does_not_move_its_resume_point(feed: Feed) -> None:
    client, log = Client(STREAM, stages=True), Log()
    feed.join(client, view(), bits=ALL, name="a")
    client.held = 1
    route(feed, log.change(Op.CREATE, "r1"))
    assert [line.startswith(b"id ") for line in client.lines()] == [False]


def test_one_list_over_every_collection_counts_a_transaction_across_them(feed: Feed) -> None:
    client, log = Client(), Log()
    views = {"c1": view(), "c2": view(collection="notes", collection_id="c2")}
    feed.join_every(client, views, bits=ALL, name="*")
    route(
        feed,
        log.change(Op.CREATE, "r1", tx_id="t", tx_index=0, tx_size=3),
        log.change(Op.CREATE, "r2", tx_id="t", tx_index=1, tx_size=3, collection_id="c2"),
        log.change(Op.CREATE, "r3", tx_id="t", tx_index=2, tx_size=3, collection_id="c3"),
    )
    assert [(m["type"], m["tx_size"], m["subscription"]) for m in client.messages()] == [
        ("posts.create", 2, "*"),
        ("notes.create", 2, "*"),
    ]


def test_an_indexed_group_is_not_even_judged_for_the_events_of_others(feed: Feed) -> None:
    judged: list[str] = []

    def owner(user: str) -> View:
        def sees(record: Mapping[str, Any]) -> bool:
            judged.append(user)
            return record.get("owner") == user

        return view(sees, key=user, index=IndexedOn("owner", (user,)))

    clients, log = {user: Client() for user in ("u1", "u2", "u3")}, Log()
    for user, client in clients.items():
        feed.join(client, owner(user), bits=ALL, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"owner": "u1"}))
    assert set(judged) == {"u1"}
    route(feed, log.change(Op.UPDATE, "r1", {"owner": "u2"}))
    assert set(judged) == {"u1", "u2"}
    assert [m.get("change") for m in clients["u1"].messages()] == [None, "leave"]
    assert [m.get("change") for m in clients["u2"].messages()] == ["enter"]
    assert clients["u3"].out == ()


def test_an_index_over_the_elements_of_an_array_finds_its_groups(feed: Feed) -> None:
    client, log = Client(), Log()

    def sees(record: Mapping[str, Any]) -> bool:
        return isinstance(record["members"], list) and "u1" in record["members"]

    feed.join(client, view(sees, key="u1", index=IndexedOn("members", ("u1",), elements=True)), bits=ALL, name=None)
    route(feed, log.change(Op.CREATE, "r1", {"members": ["u0", 7, {"x": 1}]}))
    route(feed, log.change(Op.UPDATE, "r1", {"members": ["u1"]}))
    route(feed, log.change(Op.UPDATE, "r1", {"members": "u1"}))
    assert [m.get("change") for m in client.messages()] == ["enter", "leave"]


def test_whoever_can_match_nothing_comes_and_goes_beside_those_who_can() -> None:
    log, feed, client, other = Log(), Feed("a", Head(0, 0), Counters()), Client(), Client()
    nothing = feed.join(client, view(key="no groups", index=IndexedOn("owner", ())), bits=ALL, name=None)
    something = feed.join(other, view(key="u", index=IndexedOn("owner", ("u",))), bits=ALL, name=None)
    feed.route([log.change(Op.CREATE, "r1", {"owner": "u"})], "p1", [])

    feed.leave(other, something)
    feed.leave(client, nothing)

    assert (len(client.messages()), len(other.messages())) == (0, 1)
    assert list(feed.groups()) == []


def test_who_left_gets_nothing_and_the_feed_forgets_empty_groups(feed: Feed) -> None:
    client, other, log = Client(), Client(), Log()
    membership = feed.join(client, view(index=IndexedOn("owner", ("u", "v"))), bits=ALL, name=None)
    kept = feed.join(other, view(index=IndexedOn("owner", ("u", "v"))), bits=CREATE, name=None)
    feed.leave(client, membership)
    route(feed, log.change(Op.CREATE, "r1", {"owner": "u"}))
    assert client.out == ()
    assert len(other.messages()) == 1
    feed.leave(other, kept)
    assert list(feed.groups()) == []
    assert feed.members == 0


def test_control_rows_are_no_events(feed: Feed) -> None:
    client, log = Client(), Log()
    feed.join(client, view(), bits=ALL, name=None)
    assert route(feed, log.change(Op.CONTROL, "user", {"what": "user_rights"})) == []
    assert client.out == ()


VALUES = st.fixed_dictionaries({"owner": st.sampled_from(["u1", "u2", None]), "n": st.integers(0, 2)})
STEPS = st.lists(st.lists(st.tuples(st.sampled_from(["r1", "r2", "r3"]), VALUES | st.none()), min_size=1, max_size=4))


@given(STEPS)
@settings(max_examples=300)
def test_a_client_that_applies_create_update_and_delete_holds_exactly_the_list(
    steps: list[list[tuple[str, dict[str, Any] | None]]],
) -> None:
    rules: dict[str, tuple[Predicate | None, IndexedOn | None]] = {
        "all": (None, None),
        "u1": (lambda record: record["owner"] == "u1", IndexedOn("owner", ("u1",))),
        "u2 and 1": (lambda record: record["owner"] == "u2" and record["n"] > 0, IndexedOn("owner", ("u2",))),
        "n": (lambda record: record["n"] == 1, None),
    }
    feed, log = Feed("a", Head(0, 0), Counters()), Log()
    clients = {key: Client() for key in rules}
    for key, (sees, index) in rules.items():
        feed.join(clients[key], view(sees, key=key, index=index), bits=ALL, name=None)
    for number, step in enumerate(steps):
        changes = []
        for record_id, values in step:
            exists = record_id in log.records
            if values is None and not exists:
                continue
            op = Op.DELETE if values is None else Op.UPDATE if exists else Op.CREATE
            changes.append(log.change(op, record_id, values, tx_id=f"t{number}"))
        if changes:
            route(feed, *changes)
    for key, (sees, _) in rules.items():
        held: dict[str, Any] = {}
        for message in clients[key].messages():
            operation = message["type"].split(".")[1]
            record = message["data"]
            if operation == "delete":
                del held[record["id"]]
            else:
                assert (operation == "create") == (record["id"] not in held)
                held[record["id"]] = record
        assert held == {i: record for i, record in log.records.items() if sees is None or sees(record)}


PLACES = st.tuples(
    st.sampled_from(["u1", "u1 too", "u1 or u2", "all"]), st.sampled_from([ALL, CREATE]), st.sampled_from([None, "one"])
)
"""Which of the views, operations and name of a subscription: few, so that many share a group, a variant or a value."""
INDEXES = {"u1": ("u1",), "u1 too": ("u1",), "u1 or u2": ("u1", "u2")}
COMINGS = st.lists(st.tuples(st.booleans(), PLACES, st.sampled_from([WIRE, STREAM]), st.integers(0, 99)), max_size=40)


@given(COMINGS)
@settings(max_examples=400)
def test_however_members_come_and_go_each_gets_every_event_of_theirs_once(
    comings: list[tuple[bool, tuple[str, int, str | None], Wire, int]],
) -> None:
    feed, log = Feed("a", Head(0, 0), Counters()), Log()
    here: list[tuple[Client, Any, str, int]] = []
    for comes, (which, bits, name), wire, number in comings:
        if comes or not here:
            client, values = Client(wire), INDEXES.get(which)
            index = None if values is None else IndexedOn("owner", values)
            sees = None if values is None else lambda record, values=values: record["owner"] in values
            here.append(
                (client, feed.join(client, view(sees, key=which, index=index), bits=bits, name=name), which, bits)
            )
        else:
            client, place, _, _ = here.pop(number % len(here))
            feed.leave(client, place)
            client.out = ()
        owner = ("u1", "u2", "u3")[number % 3]
        told = {id(client): len(client.messages()) for client, _, _, _ in here}
        dirty = route(feed, log.change(Op.CREATE, f"r{log.seq}", {"owner": owner}))
        assert len(dirty) == len(set(map(id, dirty)))
        for client, _, which, _ in here:
            concerned = which == "all" or owner in INDEXES[which]
            assert len(client.messages()) - told[id(client)] == concerned
    assert feed.members == len(here)
    for client, place, _, _ in here:
        feed.leave(client, place)
    assert (list(feed.groups()), feed.members, feed.costly, feed._groups) == ([], 0, 0, {})
