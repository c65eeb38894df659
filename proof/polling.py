"""A client that polls: it reads each list page by page, then asks `/realtime/changes` what came after."""

import asyncio
import json
from typing import Any

import httpx
import msgspec

from proof.clients import SILENCE_S, Client
from proof.livelist import Difference, LiveList, Message, State, id_of
from proof.people import API

PAGE = "100"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_decode = msgspec.json.Decoder().decode


class PollingClient(Client):
    """Lists by `GET`, kept current by `GET`."""

    kind = "polling"
    pause_s = 0.3

    async def _connect(self) -> None:
        token = await self._token()
        headers = {"authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(verify=False, timeout=SILENCE_S, headers=headers) as client:  # noqa: S501
            while True:
                for one in self.lists:
                    await self._look(client, one)
                await asyncio.sleep(self.pause_s * (0.5 + self.chance.random()))

    async def _look(self, client: httpx.AsyncClient, one: LiveList) -> None:
        if one.state is State.REFUSED and self.chance.random() < 0.7:
            return
        if one.cursor is None:
            await self._fill(client, one)
            return
        if one.state is not State.LIVE:
            one.goes_on(one.cursor)
        asked = {"collection": one.collection, "since": one.cursor, **_view(one)}
        answer = await self._get(client, "/realtime/changes", asked, one)
        if answer is None:
            return
        for event in _raws.decode(answer["events"]):
            self.counts["messages"] += 1
            one.take(Message(bytes(event)))
        one.beat(_decode(answer["position"]))

    async def _fill(self, client: httpx.AsyncClient, one: LiveList) -> None:
        """The whole set by keyset pages, which miss no record that stays."""
        records: dict[str, bytes] = {}
        positions: list[str] = []
        asked = {"sort": "id", "limit": PAGE, "cursor": "", **_view(one)}
        while True:
            answer = await self._get(client, f"/records/{one.collection}", asked, one)
            if answer is None:
                return
            items = [bytes(raw) for raw in _raws.decode(answer["items"])]
            records.update({id_of(item): item for item in items})
            positions.append(_decode(answer["position"]))
            following = _decode(answer["next_cursor"])
            if following is None:
                break
            asked["cursor"] = following
        one.filled(records, since=positions[0], until=positions[-1])

    async def _get(
        self, client: httpx.AsyncClient, path: str, asked: dict[str, str], one: LiveList
    ) -> dict[str, msgspec.Raw] | None:
        """The answer's parts; None when the list is refused now, or has to be read anew. Raises EOFError."""
        query: dict[str, Any] = {name: value for name, value in asked.items() if value}
        answer = await client.get(f"http://{self.base}{API}{path}", params=query)
        status = answer.status_code
        if status == 200:
            return _fields.decode(answer.content)
        self._answered(status)
        if status == 410:
            one.counts[f"gone {answer.json()['code']}"] += 1
            one.note(f"-- gone {answer.json()['code']}")
            one.forget()
        elif status in (400, 403, 404):
            one.take(Message(json.dumps({"type": "error", "code": answer.json()["code"]})))
        elif status in (401, 429) or status >= 502:
            raise EOFError
        else:
            raise Difference(f"{self.name}: {path} was answered {status} {answer.text[:300]}")
        return None


def _view(one: LiveList) -> dict[str, str]:
    return {"filter": one.filter or "", "fields": one.fields or ""}
