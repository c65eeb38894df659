"""Every route of the contract (§8): each documented answer is provoked once, and each parameter and key is used.

The tables that the OpenAPI document is made of are the list of what has to happen here; what never happened fails the
test by its name. So does any answer that the tables do not know, in status, header, media type or schema.
"""

import pytest

from snackbase.web.documents.answers import statuses
from snackbase.web.documents.operation import Key
from snackbase.web.documents.tables import OPERATIONS
from tests.e2e import contract_stories as stories
from tests.e2e.audit import ENDLESS, WS, Audit, body_keys
from tests.e2e.conftest import MakeHouse
from tests.e2e.support import API, Member, fresh

LAYER = {408, 503}
"""Come from around all routes, and are provoked for some: tests/unit/test_http.py, tests/fault/."""
RACE = (409,)
ELSEWHERE: dict[Key, tuple[int, ...]] = {
    # Somebody else came first, between reading and writing: tests/unit/accounts/test_groups.py and others.
    **dict.fromkeys(
        [
            ("DELETE", f"{API}/groups/{{group_id}}"),
            ("POST", f"{API}/groups/{{group_id}}/users"),
            ("DELETE", f"{API}/groups/{{group_id}}/users/{{user_id}}"),
            ("DELETE", f"{API}/admin/api-keys/{{key_id}}"),
            ("PUT", f"{API}/collections/{{collection}}/rules"),
            ("PATCH", f"{API}/collections/{{collection}}/rules"),
            ("POST", f"{API}/records/{{collection}}/import"),
        ],
        RACE,
    ),
    # A thousand keys: tests/unit/accounts/test_api_keys.py. Another setting: tests/e2e/test_ops.py.
    ("POST", f"{API}/admin/api-keys"): (409,),
    ("GET", "/metrics"): (401,),
}
BODY_LIMIT = 200_000


@pytest.fixture
async def audit(make_house: MakeHouse) -> Audit:
    house = await make_house(
        MAX_BODY_BYTES=BODY_LIMIT,
        LOGIN_ATTEMPTS_PER_MINUTE=5,
        REALTIME_MAX_CONNECTIONS_PER_USER=2,
        TRUSTED_PROXIES="127.0.0.1",
    )
    made = Audit(house)
    await made.reload()
    return made


async def test_every_documented_answer_comes_and_every_parameter_and_key_is_used(audit: Audit) -> None:
    root, ada = await audit.house.superadmin(), await audit.house.founder("ada")
    names = await _names(audit, root, ada)
    await audit.reload()
    for key in OPERATIONS:
        await _refusals(audit, key, names, root, ada)
    await stories.server(audit, root, ada)
    await stories.logins(audit, root, ada)
    await stories.accounts(audit, root, ada)
    await stories.users(audit, root, ada)
    await stories.membership(audit, root, ada)
    await stories.keys(audit, root, ada)
    await stories.invitations(audit, root, ada)
    await stories.collections(audit, root, ada)
    await stories.records(audit, root, ada)
    await stories.transfer(audit, root, ada)
    await stories.realtime(audit, root, ada)
    await stories.too_many(audit, root, ada)

    missing = audit.missing(ELSEWHERE, LAYER)
    assert not missing, "\n".join(missing)


def test_what_is_said_to_be_tested_elsewhere_is_documented() -> None:
    for key, given in ELSEWHERE.items():
        assert set(given) <= statuses(OPERATIONS[key]), key


async def _names(audit: Audit, root: Member, ada: Member) -> dict[str, str]:
    """What stands for the parts of paths; what a body is about has to be there."""
    collection = await audit.house.collection("title", name=fresh("posts"))
    nobody = "01890a5d-ac96-774b-bcce-b302099a8057"
    others = ("record_id", "key_id", "invitation_id", "token")
    group = (await ada.request("POST", "/groups", json={"name": "a group"})).json()["id"]
    user = (await audit.house.member(ada)).id
    here = {"collection": collection, "account": ada.account_id, "role_id": "2", "group_id": group, "user_id": user}
    return {**here, **dict.fromkeys(others, nobody)}


async def _refusals(audit: Audit, key: Key, names: dict[str, str], root: Member, ada: Member) -> None:
    """What every route refuses in the same way, provoked on this one."""
    method, path = key
    for name, value in names.items():
        path = path.replace(f"{{{name}}}", value)
    target = path
    operation, documented = OPERATIONS[key], statuses(OPERATIONS[key])
    body = _body(key)
    await audit.ask(root, "TRACE", target, 405)
    audit.note(key, 405)
    await audit.ask(root, method, target, 413, content=b"x" * (BODY_LIMIT + 1))
    if path == WS:
        return
    if operation.access != "open":
        account = "account" if path == ENDLESS else None
        for status, who, named in (
            (401, None, None),
            (403, ada, "system"),
            (404, root, "nowhere"),
            (401, "dead", None),
        ):
            how = {} if named is None else {"params": {account: named}} if account else _acting_in(named)
            await audit.ask(who, method, target, status, **body, **how)
        await audit.ask(root, method, target, 400, **body, headers={"x-api-key": "another"})
    elif operation.body is not None:
        await audit.ask(None, method, target, 400, content=b"{", headers=JSON)
    else:
        audit.raw(method, path)
    if 415 in documented:
        await audit.ask(root, method, target, 415, content=b"<a/>", headers={"content-type": "text/html"})
    if 422 in documented and body_keys(operation):
        await audit.ask(root, method, target, 422, content=b'{"nonsense":1}', headers=JSON)
    if path.startswith(API) and path not in (ENDLESS, f"{API}/health"):
        await audit.ask(root, method, target, 400, params={"nonsense": "1"}, **body)


JSON = {"content-type": "application/json"}


def _acting_in(account: str) -> dict[str, dict[str, str]]:
    return {"headers": {"x-account-id": account}}


def _body(key: Key) -> dict[str, object]:
    """A body that is no reason to refuse a request before its token is looked at."""
    if OPERATIONS[key].body is None:
        return {}
    return {"content": b"{}"} if OPERATIONS[key].body_type != "application/json" else {"json": {}}
