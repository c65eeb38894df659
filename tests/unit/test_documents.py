"""The API's documents say what the router serves and the protocol speaks: no more, no less, and to nobody too much."""

import inspect
import json
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from snackbase.catalog import Definition
from snackbase.errors import CLOSINGS, GOING_AWAY
from snackbase.model import MEMBERS_RULE, Collection, Field, FieldType, Rules
from snackbase.realtime import protocol
from snackbase.web.documents import asyncapi
from snackbase.web.documents.messages import FROM_CLIENT, FROM_SERVER, REASONS
from snackbase.web.documents.openapi import Audience, OpenApi, served
from snackbase.web.documents.tables import OPERATIONS, STAND_INS
from snackbase.web.middleware import METHODS
from tests.support.documents import kind_of, message_faults
from tools import docs

TIME = "2026-01-17T12:34:56.789Z"
AT = "k2v9x0q4m1.7.1f0c9a2b3d.4"
RECORDS = "/api/v1/records/{collection}"


@pytest.fixture(scope="module")
def openapi() -> OpenApi:
    return OpenApi(docs.served(), OPERATIONS, version="1", schemas=STAND_INS)


@pytest.fixture(scope="module")
def realtime() -> dict[str, Any]:
    return asyncapi.document("1")


def definition(name: str = "posts", *fields: Field, shown: tuple[str, ...] | None = None, **rules: Any) -> Definition:
    every = {f"{operation}_rule": MEMBERS_RULE for operation in ("list", "view", "create", "update", "delete")}
    return Definition(
        Collection(
            id=f"id-of-{name}",
            name=name,
            table=name,
            fields=fields or (Field(name="title"),),
            rules=Rules(**(every | rules)),
            list_fields=shown,
            created_at=TIME,
            updated_at=TIME,
        )
    )


def operations_of(document: dict[str, Any], part: str = "") -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in document["paths"].items() for method in item if part in path}


# OpenAPI -------------------------------------------------------------------------------------------------------------


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(served(docs.served())) == set(OPERATIONS)


def test_every_served_method_is_one_that_preflights_allow() -> None:
    assert {method for method, _ in OPERATIONS} == set(METHODS.split(", "))


def test_the_document_describes_what_the_router_serves(openapi: OpenApi) -> None:
    document = openapi.document((), "guest")

    def nameless(keys: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        return {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in keys}

    assert nameless(operations_of(document)) == nameless(served(docs.served()))


@pytest.mark.parametrize("audience", ["guest", "member", "superadmin"])
def test_the_document_is_valid_openapi(openapi: OpenApi, audience: Audience) -> None:
    kinds = [Field(name=f"a_{kind}", type=kind, options=["x"]) for kind in FieldType]
    needed = [msgspec.structs.replace(field, name=f"{field.name}_too", required=True) for field in kinds]

    validate(json.loads(msgspec.json.encode(openapi.document((definition("posts", *kinds, *needed),), audience))))


def test_two_routes_that_name_a_part_differently_are_one_path(openapi: OpenApi) -> None:
    shapes = [re.sub(r"\{\w+\}", "{}", path) for path in openapi.document((), "guest")["paths"]]

    assert len(shapes) == len(set(shapes))


def test_operation_ids_are_unique(openapi: OpenApi) -> None:
    document = openapi.document((definition("posts"), definition("batch"), definition("record_id")), "superadmin")
    ids = [one["operationId"] for item in document["paths"].values() for one in item.values()]

    assert len(ids) == len(set(ids))


def test_every_collection_has_all_operations_of_records_by_its_name(openapi: OpenApi) -> None:
    document = openapi.document((definition("posts"), definition("notes")), "member")

    for name in ("posts", "notes"):
        wanted = {
            (method, path.replace("{collection}", name)) for (method, path), one in OPERATIONS.items() if one.rule
        }
        assert operations_of(document, f"/records/{name}") == wanted


def test_a_record_is_described_by_its_fields(openapi: OpenApi) -> None:
    fields = (
        Field(name="title", required=True),
        Field(name="views", type=FieldType.NUMBER, default=0),
        Field(name="state", type=FieldType.SELECT, options=["new", "old"], required=True, default="new"),
        Field(name="extra", type=FieldType.JSON),
    )
    schemas = openapi.document((definition("posts", *fields),), "member")["components"]["schemas"]

    new = schemas["posts.New"]
    assert new["required"] == ["title"]
    assert new["additionalProperties"] is False
    assert new["properties"]["state"] == {"enum": ["new", "old"], "default": "new"}
    assert new["properties"]["views"] == {"type": ["number", "null"], "default": 0}
    assert "required" not in schemas["posts.Changes"]
    assert list(schemas["posts.Listed"]["properties"]) == [
        *("id", "title", "views", "state", "extra"),
        *("account_id", "created_at", "created_by", "updated_at", "updated_by"),
    ]


def test_a_collection_locked_to_superadmins_is_shown_to_superadmins_only(openapi: OpenApi) -> None:
    locked = dict.fromkeys(("list_rule", "view_rule", "create_rule", "update_rule", "delete_rule"))
    secret = (definition("secrets", **locked),)

    assert "secrets" not in msgspec.json.encode(openapi.document(secret, "guest")).decode()
    assert "secrets" not in msgspec.json.encode(openapi.document(secret, "member")).decode()
    assert operations_of(openapi.document(secret, "superadmin"), "/secrets")


def test_strangers_see_what_a_rule_may_grant_to_a_guest(openapi: OpenApi) -> None:
    mixed = (definition("posts", list_rule="", view_rule="title = 'open'"), definition("notes"))

    assert operations_of(openapi.document(mixed, "guest"), "/posts") == {
        ("GET", "/api/v1/records/posts"),
        ("GET", "/api/v1/records/posts/{record_id}"),
    }
    assert not operations_of(openapi.document(mixed, "guest"), "/notes")


def test_fields_that_a_list_hides_are_not_in_its_schema_but_for_superadmins(openapi: OpenApi) -> None:
    hiding = (definition("posts", Field(name="title"), Field(name="cost"), shown=("title",)),)

    def listed(audience: Audience) -> Any:
        return openapi.document(hiding, audience)["components"]["schemas"]["posts.Listed"]["properties"]

    assert list(listed("member")) == ["id", "title"]
    assert "cost" in listed("superadmin")


def test_a_mounted_application_is_described_where_it_is(openapi: OpenApi) -> None:
    assert openapi.document((), "guest", root="/backend")["servers"] == [{"url": "/backend"}]


# AsyncAPI ------------------------------------------------------------------------------------------------------------


def test_every_message_that_the_protocol_builds_is_described(realtime: dict[str, Any]) -> None:
    built = {
        "subscribed": [
            protocol.subscribed("posts", ("create",), AT, TIME, name=None, action="subscribe"),
            protocol.subscribed("*", protocol.OPERATIONS, AT, TIME, name="mine", action=None),
        ],
        "unsubscribed": [
            protocol.unsubscribed("posts", action="unsubscribe"),
            protocol.unsubscribed(None, name="mine", reason="forbidden"),
        ],
        "resync": [protocol.resync("posts", reason, AT, name="mine") for reason in REASONS],
        "caught_up": [protocol.caught_up("posts", AT, name=None), protocol.caught_up("posts", AT, name="mine")],
        "snapshot": [protocol.snapshot("posts", [{"id": "x"}], complete=True, name="mine")],
        "heartbeat": [protocol.heartbeat(TIME, AT)],
        "pong": [protocol.pong(TIME, name=None, action=None), protocol.pong(TIME, name="p-1", action="ping")],
        "authenticated": [protocol.authenticated(word, TIME, action="auth") for word in ("ok", "expiring")],
        "closing": [protocol.closing(end, 830) for end in CLOSINGS.values()],
        "error": [
            protocol.error("invalid_filter", "no", collection="posts", name="mine", action="subscribe"),
            protocol.error("unknown_action", "no", close_code=4500),
        ],
    }
    builders = {
        name
        for name, function in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(function).return_annotation is bytes
    }

    assert built.keys() == builders
    messages = [json.loads(each) for several in built.values() for each in several]
    assert {kind_of(message) for message in messages} == FROM_SERVER.keys() - {"event"}
    assert [fault for one in messages for fault in message_faults(realtime, kind_of(one), one)] == []


def test_a_message_that_is_not_of_the_described_form_is_noticed(realtime: dict[str, Any]) -> None:
    message = json.loads(protocol.closing(GOING_AWAY, 830))

    assert message_faults(realtime, "closing", {**message, "retry_after_ms": "soon"})
    assert message_faults(realtime, "closing", {**message, "unheard_of": 1}) == ["closing: unknown key unheard_of"]


@pytest.mark.parametrize(
    ("message", "fits"),
    [
        ({"action": "subscribe", "collection": "posts"}, True),
        ({"action": "subscribe", "collection": "*", "operations": ["create"], "filter": "id = 'x'", "id": "a"}, True),
        ({"action": "subscribe", "collection": "posts", "snapshot": {"sort": "title", "limit": 5}}, True),
        ({"action": "subscribe", "since": AT, "subscriptions": [{"collection": "posts", "fields": ["title"]}]}, True),
        ({"action": "unsubscribe", "id": "mine"}, True),
        ({"action": "auth", "token": "x"}, True),
        ({"action": "ping"}, True),
        ({"action": "subscribe"}, False),
        ({"action": "subscribe", "collection": "posts", "operation": "create"}, False),
        ({"action": "subscribe", "subscriptions": []}, False),
        ({"action": "subscribe", "collection": "a.b"}, False),
        ({"action": "subscribe", "collection": "posts", "operations": []}, False),
    ],
)
def test_what_clients_may_send_is_described_as_the_protocol_reads_it(
    realtime: dict[str, Any], message: dict[str, Any], fits: bool
) -> None:
    schema = realtime["components"]["schemas"][f"{message['action']}Request"]
    validator = msgspec.json.encode({"components": realtime["components"], **schema})

    assert _valid(json.loads(validator), message) is fits
    assert _understood(message) is fits


def test_every_action_of_a_client_has_its_message_and_its_answers() -> None:
    assert FROM_CLIENT.keys() == asyncapi.ANSWERS.keys()
    assert {answer for answers in asyncapi.ANSWERS.values() for answer in answers} <= FROM_SERVER.keys()


def test_every_reference_leads_somewhere(realtime: dict[str, Any], openapi: OpenApi) -> None:
    for document in (realtime, openapi.document((definition(),), "superadmin")):
        for reference in _references(document):
            place: Any = document
            for key in reference.removeprefix("#/").split("/"):
                place = place[key]


def _valid(schema: dict[str, Any], message: dict[str, Any]) -> bool:
    return bool(Draft202012Validator(schema).is_valid(message))


def _understood(message: dict[str, Any]) -> bool:
    try:
        read = protocol.decode(json.dumps(message).encode())
        if read.action == "subscribe":
            for request in protocol.subscribe_requests(read):
                protocol.check_request(request)
    except protocol.ProtocolError:
        return False
    return True


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [one for each in value.values() for one in _references(each)]
    return [one for each in value for one in _references(each)] if isinstance(value, list | tuple) else []
