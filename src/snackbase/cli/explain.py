"""`snackbase explain`: asks a running server why a change reached a client or did not, and says it in lines.

The question is `POST /realtime/explain`; only the server knows who is connected.
"""

import contextlib
import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from snackbase.cli.tail import Refused, connection_to, reason_of

ENDPOINT = "/api/v1/realtime/explain"


def ask(url: str, token: str, question: Mapping[str, str], *, account: str | None) -> dict[str, Any]:
    """The server's answer.

    Args:
        url: the server, e.g. http://127.0.0.1:8000.
        account: the account acted in, for superadmins (slug or code); None = the token's own.

    Raises:
        Refused: the server said no, or cannot be reached.
    """
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    if account is not None:
        headers["X-Account-ID"] = account
    try:
        with contextlib.closing(connection_to(url)) as connection:
            path = urlsplit(url).path.rstrip("/") + ENDPOINT
            connection.request("POST", path, json.dumps(question), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(reason_of(response))
            answer: dict[str, Any] = json.loads(response.read())
            return answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Refused(f"{url}: {str(error) or type(error).__name__}") from None


def told(answer: Mapping[str, Any]) -> Iterator[str]:
    """The answer in lines."""
    change = answer["change"]
    where = change["collection"] or "a collection that is gone"
    yield f"{change['timestamp']}  {change['operation']} of {change['record_id']} in {where}"
    for one in answer["connections"]:
        yield f"connection {one['id']} ({one['transport']}, {one['unsent_bytes']} bytes unsent)"
        for part in one["subscriptions"]:
            name = part.get("id") or part["collection"] or "no subscription"
            mark = "yes" if part["delivered"] else "no "
            yield f"  {mark}  {name}: {part['reason']}. {part['message']}"
    for one in answer["ended"]:
        when = "after" if one["seq"] >= change["seq"] else "before"
        known = f"connection {one['connection_id']} ({one['transport']})"
        yield f"{known} ended at {one['at']}, {when} the change: {one['code']}"
    yield str(answer["summary"])
