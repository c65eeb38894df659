"""Hostile and random requests against every described route: no 500, and no answer that the document does not know.

The random ones are Schemathesis's, always the same ones: what is tried is fixed by the document. The hostile ones are
chosen: what no JSON number, text or nesting should do to a server, in every place where a value can stand.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House, Member, remember
from tests.support.server import ROOT

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 2
BUDGET_S = 20
"""Of one run; there are as many as RUNS, so all of them take 80 s at most besides their starts. The first half of a run
covers every operation, value by value; the random rest goes as far as the time does, always in the same order."""
DATA = r"^/api/v1/(records|realtime|collections|rules)"
LOGINS = r"^/api/v1/auth/(logout|password)$"
"""They would end the login that a run is made with; the run of a key has none."""
ENDLESS = r"^/api/v1/realtime/(ws|subscribe)$"
"""Streams: audit.py and the protocol tests have them."""
RUNS = {
    "a superadmin and data": ("superadmin", DATA, f"{ENDLESS}|{LOGINS}"),
    "a superadmin and all else": ("superadmin", "^", f"{DATA}|{LOGINS}"),
    "a member": ("member", "^", f"{ENDLESS}|{LOGINS}"),
    "a key": ("superadmin", r"^/api/v1/(auth|records)", ENDLESS),
}
FIELDS = (
    {"name": "title", "type": "text", "required": True},
    {"name": "views", "type": "number", "default": 0},
    {"name": "done", "type": "boolean"},
    {"name": "at", "type": "datetime"},
    {"name": "day", "type": "date"},
    {"name": "mail", "type": "email"},
    {"name": "link", "type": "url"},
    {"name": "extra", "type": "json"},
    {"name": "state", "type": "select", "options": ["new", "old"]},
)
HOSTILE = (
    *("9223372036854775808", "-9223372036854775809", "1e400", "1" * 5000, "0.1", "NaN", "-Infinity"),
    *('"\\ud800"', '"\\u0000"', '"' + "x" * 300_000 + '"', '""', '"\\u202e../\'\\";--"'),
    *("[" * 200 + "]" * 200, "{" + '"a":{' * 100 + "}" * 100 + "}", "[]", "{}", "null", "true", '["a", 1, null, {}]'),
)
WORST = ("9223372036854775808", "NaN", '"\\ud800"', '"\\u0000"', "null")
"""Tried alone in every place; the others take turns."""
BODIES = (b"", b"{", b"\xff\xfe", b'"\xed\xa0\x80"', b"[" * 100_000, b"null", b"[]", b'{"a":1,"a":2}', b"1" * 10_000)
IN_URLS = ("%00", "%ED%A0%80", "%FF", "9" * 30, "x" * 3000, "..%2F..", "'%22--", "%F0%9F%98%80", "-1", "1e400")


async def _stage(house: House, role: str) -> tuple[Member, dict[str, str]]:
    """Somebody to ask as, and what to name in paths: nothing that the asker depends on."""
    founder = await house.founder()
    member = await house.superadmin() if role == "superadmin" else founder
    spare = await house.founder("spare")
    posts = await house.collection(*FIELDS, name=f"posts_of_{role}", list_rule="")
    record = await member.create(posts, title="first")
    doomed = await house.member(spare if role == "superadmin" else founder)
    names = {"collection": posts, "record_id": record["id"], "user_id": doomed.id}
    return member, {**names, "account": spare.account["slug"] if role == "superadmin" else founder.account_id}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
async def test_no_random_request_finds_a_500_or_an_undocumented_answer(
    make_house: MakeHouse, tmp_path: Path, run: str
) -> None:
    house = await make_house()
    role, wanted, left_out = RUNS[run]
    member, names = await _stage(house, role)
    token = await _key(member) if run == "a key" else member.token
    values = ", ".join(f'"path.{name}" = "{value}"' for name, value in names.items())
    # Dropping the collection would leave the records nothing to be found in, so there a made-up name is better.
    (tmp_path / "schemathesis.toml").write_text(
        f'[[operations]]\ninclude-path-regex = "^/api/v1/(records|users|accounts)"\nparameters = {{ {values} }}\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).with_name("st")), "run", f"{house.server.base_url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", "--checks", CHECKS, "--continue-on-failure"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--generation-deterministic"),
        *("--include-path-regex", wanted, "--exclude-path-regex", left_out, "--max-time", str(BUDGET_S)),
        *("--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.e2e.fuzz_hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    text = said.decode(errors="replace").replace(token, "…")

    assert process.returncode == 0, text[-12_000:]
    assert int(re.findall(r"(\d+) generated", text)[0]) > 50, text
    me = await house.client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"})
    assert me.status_code == 200, "the login ended on the way, so that the rest of the run tried nothing"


async def _key(member: Member) -> str:
    made = await member.request("POST", "/admin/api-keys", json={"name": "fuzz", "role": "admin"})
    return remember(made.json()["key"])


@pytest.mark.parametrize("role", ["superadmin", "member"])
async def test_no_hostile_value_in_any_body_finds_a_500_or_an_undocumented_answer(
    make_house: MakeHouse, role: str
) -> None:
    house = await make_house()
    member, names = await _stage(house, role)
    document = await _document(house, member)
    faults = []
    for method, path, operation in _operations(document, names):
        if "requestBody" not in operation:
            continue
        schema = next(iter(operation["requestBody"]["content"].values()))["schema"]
        if path.endswith(("/logout", "/password")):
            member = await house.login(member.account["slug"], member.email, member.password)
        for body in (*BODIES, *_hostile_bodies(_properties(document, schema))):
            faults += await _faults(house, member, method, path, operation, content=body)

    assert faults == []


async def test_no_hostile_value_in_any_url_finds_a_500_or_an_undocumented_answer(make_house: MakeHouse) -> None:
    house = await make_house()
    member, names = await _stage(house, "superadmin")
    document = await _document(house, member)
    faults = []
    for method, path, operation in _operations(document, {}):
        if path.endswith(("/logout", "/subscribe", "/ws")):
            continue
        for value in IN_URLS:
            hostile = re.sub(r"\{\w+\}", value, path)
            if hostile != path:
                faults += await _faults(house, member, method, hostile, operation, content=b"{}")
        whole = re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], "x"), path)
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                for value in IN_URLS:
                    faults += await _faults(house, member, method, f"{whole}?{parameter['name']}={value}", operation)

    assert faults == []


async def _document(house: House, member: Member) -> dict[str, Any]:
    answer = await house.client.get("/openapi.json", headers={"authorization": f"Bearer {member.token}"})
    document: dict[str, Any] = answer.json()
    return document


def _operations(document: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], found[0]), path), operation


def _properties(document: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """The properties of an object's schema; of any of them where there are several."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return dict(schema.get("properties", {"title": {}, "id": {}}))


def _hostile_bodies(properties: Mapping[str, Any]) -> Iterator[bytes]:
    """Every hostile value in all places at once, and alone in one place after the other."""
    fine = {name: json.dumps(_likely(name, schema)) for name, schema in properties.items()}
    for number, value in enumerate(HOSTILE):
        yield _body(dict.fromkeys(fine, value))
        for place, name in enumerate(fine):
            if value in WORST or (number + place) % 4 == 0:
                yield _body({**fine, name: value})


def _likely(name: str, schema: Mapping[str, Any]) -> object:
    known = {"email": "new@example.com", "password": "a-likely-password-1", "limit": 1}
    kind = str(schema.get("type", ""))
    return known.get(name, [] if "array" in kind else 1 if "integer" in kind or "number" in kind else f"some-{name}")


def _body(members: Mapping[str, str]) -> bytes:
    return ("{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in members.items()) + "}").encode()


async def _faults(
    house: House, member: Member, method: str, path: str, operation: Mapping[str, Any], content: bytes | None = None
) -> list[str]:
    headers = {"authorization": f"Bearer {member.token}", "content-type": "application/json"}
    answer = await house.client.request(method, path, headers=headers, content=content)
    sent = (content or b"")[:200]
    where = f"{method} {path[:120]} {sent!r}: {answer.status_code} {answer.text[:200]}"
    if str(answer.status_code) not in operation["responses"]:
        return [where]
    if answer.status_code >= 400 and not {"error", "message", "code", "details"} <= answer.json().keys():
        return [where]
    return []
