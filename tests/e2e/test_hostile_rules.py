"""The rule language in hostile hands: every text is answered with a place and a word, and the server goes on."""

import json
import re
from typing import Any

import pytest

from tests.e2e.support import API, OPEN_RULES, House

PLACED = re.compile(r"position \d+|at most 2000 characters")
SCHEMA = {"stars": "number", "done": "boolean", "meta": "json"}
REFUSED = {
    "deep parentheses": "(" * 500 + "title = 'x'" + ")" * 500,
    "deep negation": "!" * 500 + "done",
    "deep mixture": "!(" * 40 + "done" + ")" * 40,
    "a huge list": f"stars IN ({', '.join(map(str, range(400)))})",
    "very many conditions": "||".join(["done"] * 250),
    "too many characters": "title = '" + "x" * 3000 + "'",
    "an open text": "title = 'x",
    "a text with NUL": "title = 'a\0b'",
    "another statement": "title = 'x'; DROP TABLE _users",
    "a comment": "title = 'x' -- and more",
    "a union": "title = 'x' UNION SELECT password FROM _users",
    "a subquery": "title = (SELECT 1)",
    "a function": "load_extension('x') = 1",
    "a parameter": "title = ?1",
    "a number beside a text": "title > 1",
    "a text beside a number": "stars = '1'",
    "a boolean that is ordered": "done > false",
    "a list that is compared": "meta = 'x'",
    "a claim that is a list": "@request.auth.groups = 'x'",
    "a claim that is not there": "@request.auth.password = 'x'",
    "a claim's inside": "@request.auth.id.x = 'x'",
    "a number too large": "stars = 99999999999999999999",
    "an infinite number": "stars = 1e999",
    "not a number": "stars = NaN",
    "full-width letters": "ｔitle = 'x'",  # noqa: RUF001
    "a combining accent in a name": "title\u0301 = 'x'",
    "a right-to-left override": "\u202etitle = 'x'",
    "another script's operator": "title ＝ 'x'",  # noqa: RUF001
    "only a sign": "&&",
}
HARMLESS = {
    "a pattern of wildcards": "title ~ '" + "%a" * 300 + "%b'",
    "a pattern of single wildcards": "title ~ '%" + "_" * 900 + "b%'",
    "nested repeats": "title ~ '%" + "(a+)+" * 50 + "$%'",
    "an escape at the end": "title ~ 'a%\\\\'",
    "what would be a column elsewhere": "\"password\" = 'x'",
    "another normal form": "title = 'e\u0301'",
    "a text that looks like SQL": "title = '1'' OR ''1''=''1'",
    "as deep as it goes": "(" * 20 + "title = 'x'" + ")" * 20,
    "as long a list as it goes": f"stars IN ({', '.join(map(str, range(100)))})",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
async def test_a_filter_that_means_nothing_is_refused_with_its_place_on_every_way_in(house: House, text: str) -> None:
    me = await house.founder()
    fields: list[Any] = ["title", *({"name": n, "type": t} for n, t in SCHEMA.items())]
    things = await house.collection(*fields, **OPEN_RULES)
    headers = {"authorization": f"Bearer {me.token}"}
    for path, more in ((f"/records/{things}", {}), ("/realtime/changes", {"collection": things})):
        answer = await house.client.get(f"{API}{path}", params={"filter": text, **more}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filter"), answer.text
        assert PLACED.search(answer.json()["message"])
    socket = await house.socket(me)
    told = await socket.ask("subscribe", collection=things, filter=text)
    assert (told["type"], told["code"]) == ("error", "invalid_filter")
    assert PLACED.search(told["message"])
    assert (await socket.ask("ping"))["type"] == "pong"
    root = await house.superadmin()
    rule = await root.request("PUT", f"/collections/{things}/rules", json={"list_rule": text}, status=422)
    assert rule.json()["details"][0]["field"] == "list_rule"


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS.keys())
async def test_a_filter_that_is_only_spiteful_is_answered_like_any_other(house: House, text: str) -> None:
    me = await house.founder()
    fields: list[Any] = ["title", *({"name": n, "type": t} for n, t in SCHEMA.items())]
    things = await house.collection(*fields, **OPEN_RULES)
    socket = await house.socket(me)
    await socket.subscribe(things, id="spite", filter=text)
    await socket.subscribe(things, id="all")
    long = await me.create(things, title="a" * 200_000)
    told = await socket.next()
    assert (told["subscription"], told["data"]["id"]) == ("all", long["id"])
    listed = await me.request("GET", f"/records/{things}", params={"filter": text})
    assert listed.json()["total"] == 0


async def test_half_a_character_in_a_filter_is_refused_and_not_an_error_of_the_server(house: House) -> None:
    me = await house.founder()
    things = await house.collection("title")
    socket = await house.socket(me)
    text = '{"action":"subscribe","collection":%s,"filter":"title = \'\\ud800\'"}' % json.dumps(things)  # noqa: UP031
    await socket.send(text)
    told = await socket.next()
    assert told["type"] == "error" and told["code"] in ("invalid_filter", "invalid_json", "invalid_message")
    assert (await socket.ask("ping"))["type"] == "pong"
