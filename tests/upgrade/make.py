"""Makes a fixture of an old data folder: `python -m tests.upgrade.make SOURCES`, with the sources of that version.

SOURCES is the `src` folder of a checkout of the commit that last had the schema version. Each version is made once,
when it is released, and kept for ever: what a program of today would write is no proof of what one of then wrote.
"""

import asyncio
import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import websockets

from tests.support.server import ServerProcess

FOLDERS = Path(__file__).resolve().parent / "folders"
ADA = {"email": "ada@example.com", "password": "correct horse battery"}
POSTS = {
    "name": "posts",
    "schema": [
        {"name": "title", "type": "text", "required": True},
        {"name": "likes", "type": "number"},
        {"name": "open", "type": "boolean"},
        {"name": "more", "type": "json"},
    ],
    "list_rule": "@request.auth.id != ''",
    "update_rule": "created_by = @request.auth.id",
}
COMMENTS = {
    "name": "comments",
    "schema": [
        {"name": "text", "type": "text"},
        {"name": "post", "type": "reference", "collection": "posts", "on_delete": "cascade"},
    ],
}


async def live(server: ServerProcess) -> dict[str, Any]:
    """Let an account write, and note what its clients would remember."""
    login = {"email": server.SUPERADMIN_EMAIL, "password": server.SUPERADMIN_PASSWORD}
    async with httpx.AsyncClient(base_url=f"{server.base_url}/api/v1", timeout=30) as client:

        async def ask(method: str, path: str, token: str = "", body: Any = None) -> Any:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            answer = await client.request(method, path, json=body, headers=headers)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        superadmin = (await ask("POST", "/auth/login", body=login))["token"]
        for collection in (POSTS, COMMENTS):
            await ask("POST", "/collections", superadmin, collection)
        founded = await ask("POST", "/auth/register", body={**ADA, "account_name": "Ada"})
        ada = founded["token"]

        async def position() -> str:
            async with websockets.connect(f"{server.ws_url}?token={ada}") as socket:
                await socket.send(json.dumps({"action": "subscribe", "collection": "posts"}))
                return str(json.loads(await socket.recv())["position"])

        async def post(title: str, **more: Any) -> str:
            return str((await ask("POST", "/records/posts", ada, {"title": title, **more}))["id"])

        first = await post("first", likes=1.5, open=True, more={"a": [1, None, "ä"]})
        early = await position()
        second, third = await post("second"), await post("third", likes=-0.25, open=False)
        for parent in (first, third):
            await ask("POST", "/records/comments", ada, {"text": "well", "post": parent})
        await ask("PATCH", f"/records/posts/{second}", ada, {"title": "second, changed"})
        await ask("DELETE", f"/records/posts/{third}", ada)
        records = {name: (await ask("GET", f"/records/{name}", ada))["items"] for name in ("posts", "comments")}
        late = await position()
    missed = ["posts.create", "posts.create", "posts.update", "posts.delete"]
    return {"account": founded["account"]["slug"], "records": records, "early": early, "late": late, "missed": missed}


async def make(sources: Path) -> None:
    """Run the old program in a new folder and write its database as SQL beside what it answered."""
    with tempfile.TemporaryDirectory() as folder:
        async with ServerProcess(Path(folder), environment={"PYTHONPATH": str(sources)}) as server:
            known = await live(server)
        database = sqlite3.connect(Path(folder) / "snackbase.db")
        (version,) = database.execute("SELECT value FROM _meta WHERE key = 'schema_version'").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        sql = "\n".join([f"PRAGMA application_id = {application};", *database.iterdump()])
        database.close()
        sidecar = Path(folder) / "snackbase.db.epoch"
        known["sidecar"] = json.loads(sidecar.read_text()) if sidecar.exists() else None
    FOLDERS.mkdir(exist_ok=True)
    (FOLDERS / f"schema-{version}.sql").write_text(sql + "\n", encoding="utf-8")
    told = json.dumps(known, ensure_ascii=False, indent=1)
    (FOLDERS / f"schema-{version}.json").write_text(told + "\n", encoding="utf-8")
    print(f"schema version {version}, {len(sql)} characters")


if __name__ == "__main__":
    asyncio.run(make(Path(sys.argv[1]).resolve()))
