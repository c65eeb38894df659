"""Databases that nodes share."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.e2e.support import House, Member, printed_secrets
from tests.support.nodes import Nodes
from tests.support.stores import url_of

MakeNodes = Callable[..., Awaitable[Nodes]]


@pytest.fixture
async def make_nodes(tmp_path: Path) -> AsyncIterator[MakeNodes]:
    """Starts nodes of the test's own; afterwards their output holds no secret."""
    made: list[Nodes] = []
    async with AsyncExitStack() as opened:

        async def make(count: int = 2, *, database_url: str = "", **more: object) -> Nodes:
            url = database_url or url_of(tmp_path / "shared" / "snackbase.db")
            nodes = Nodes(tmp_path / f"nodes-{len(made)}", count, database_url=url, **more)  # type: ignore[arg-type]  # its own signature checks them
            made.append(nodes)
            return await opened.enter_async_context(nodes)

        yield make
    for nodes in made:
        assert printed_secrets(nodes.output) == []


def beside(member: Member, house: House) -> Member:
    """The same login at another node."""
    told = {"account": member.account, "user": member.user, "token": member.token}
    return Member(house, {**told, "refresh_token": member.refresh_token}, email=member.email, password=member.password)


async def known(collection: str, *members: Member) -> None:
    """Wait until the members' nodes know a collection that another one made."""
    async with asyncio.timeout(30):
        for member in members:
            headers = {"authorization": f"Bearer {member.token}"}
            path = f"/api/v1/records/{collection}"
            while (await member.house.client.get(path, headers=headers)).status_code == 404:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)


async def metric(house: House, name: str, **labels: str) -> float:
    """One number of /metrics, 0 when it is not there."""
    text = (await house.client.get("/metrics")).text
    wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
    found = re.search(rf"^snackbase_{name}{re.escape('{' + wanted + '}') if wanted else ''} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def all_ready(nodes: Nodes) -> None:
    async with httpx.AsyncClient() as client:
        for server in nodes.servers:
            assert (await client.get(f"{server.base_url}/ready")).status_code == 200
