"""Refusals and limits that no other test happens to meet, each by its code or setting."""

import re
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.conftest import MakeHouse
from tests.e2e.support import House
from tests.support.server import ROOT

NEVER_SAID = {"http_error", "position_gone", "unavailable"}
"""What a class of errors is called before somebody gives it a better word; every place that raises them does."""
REFUSED: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "invalid_include_count": ("GET", "/records/{things}?include_count=maybe", {}, 400),
    "invalid_keep_going": ("POST", "/records/{things}/import?keep_going=maybe", {"content": b""}, 400),
    "invalid_page": ("GET", "/collections?page=0", {}, 400),
    "invalid_on_delete": (
        "PUT",
        "/collections/{things}",
        {"json": {"schema": [{"name": "a", "type": "reference", "collection": "{things}", "on_delete": "explode"}]}},
        422,
    ),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_what_is_not_possible_is_refused_with_its_own_code(house: House, code: str) -> None:
    things, root = await house.collection("title"), await house.superadmin()
    method, path, more, status = REFUSED[code]
    if "json" in more:
        field = {**more["json"]["schema"][0], "collection": things}
        more = {"json": {"schema": [field]}}
    answer = (await root.request(method, path.replace("{things}", things), status=status, **more)).json()

    assert code in (answer["code"], *(detail["code"] for detail in answer["details"]))


async def test_subprotocols_beyond_reason_are_refused_with_their_own_codes(house: House) -> None:
    ada = await house.founder()
    many = await house.refused_socket(ada, subprotocols=[f"x{number}" for number in range(21)])
    long = await house.refused_socket(ada, subprotocols=["x" * 9000])

    assert [(one.status, one.code) for one in (many, long)] == [(400, "invalid_subprotocol"), (431, "head_too_large")]


async def test_connections_of_one_address_and_the_size_of_a_message_are_limited_as_set(make_house: MakeHouse) -> None:
    house = await make_house(REALTIME_MAX_CONNECTIONS_PER_ADDRESS=1, REALTIME_MAX_MESSAGE_BYTES=1024)
    ada, bob = await house.founder(), await house.founder()
    socket = await house.socket(ada)
    refused = await house.refused_socket(bob)
    assert (refused.status, refused.code) == (429, "connection_limit")

    assert (await socket.ask("ping"))["type"] == "pong"
    await socket.send('{"action":"ping","id":"' + "x" * 1024 + '"}')
    with pytest.raises(ConnectionClosed) as closed:
        await socket.connection.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


def test_every_documented_code_stands_in_a_test() -> None:
    lines = (ROOT / "docs" / "reference" / "errors.md").read_text().splitlines()
    cells = [line.split("|")[1] for line in lines if line.startswith("| `")]
    codes = {code for cell in cells for code in re.findall(r"`([a-z][a-z0-9_]+)`", cell)}
    tests = "\n".join(path.read_text() for path in _tests())

    assert len(codes) > 100
    assert {code for code in codes - NEVER_SAID if not re.search(rf"\b{code}\b", tests)} == set()


def _tests() -> list[Path]:
    return [path for path in (ROOT / "tests").rglob("*.py") if "node_modules" not in path.parts]
