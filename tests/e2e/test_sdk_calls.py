"""Every call of the SDK's own services is either made by a test against a running server, or named in the docs.

What a service has is asked of the published package itself, so that a call nobody thought of is found.
"""

import re
from types import ModuleType

from tests.support.server import ROOT

SERVICES = (
    "auth",
    "accounts",
    "users",
    "roles",
    "groups",
    "invitations",
    "apiKeys",
    "collections",
    "collectionRules",
    "records",
)
PRIVATE = {"auth.checkApiKeyRestriction", "auth.cleanupExpiredStates"}
"""`private` in the package's types: the services call them themselves."""
OTHERS = {"realtime": "tests/e2e/test_sdk.py has whole sessions of it"}
ENUMERATE = """
import { SnackBaseClient } from "@snackbase/sdk";
const options = { storageBackend: "memory", enableAutoRefresh: false };
const client = new SnackBaseClient({ baseUrl: "http://127.0.0.1:1", ...options });
const getters = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(client)));
const services = getters.filter(([name, { get }]) => get && client[name]?.constructor?.name.endsWith("Service"));
const namesOf = (service) => Object.getOwnPropertyNames(Object.getPrototypeOf(service));
const callsOf = (service) => namesOf(service).filter((one) => one !== "constructor");
console.log(JSON.stringify(services.map(([name]) => [name, callsOf(client[name])])));
"""
TESTS = sorted((ROOT / "tests" / "e2e").glob("test_*sdk.py"))
PAGE = ROOT / "docs" / "reference" / "sdk.md"


async def calls(node: ModuleType) -> dict[str, list[str]]:
    [found] = (await node.run_node(ENUMERATE)).messages
    return dict(found)


def is_made(service: str, call: str, code: str) -> bool:
    """Whether some test makes the call; those of `auth` stand on the client itself, too."""
    places = [rf"\b{service}", "client"] if service == "auth" else [rf"\b{service}"]
    return any(re.search(rf"{place}\.{call}\(", code) for place in places)


async def test_every_call_of_the_services_is_tested_or_named_with_the_reason(node: ModuleType) -> None:
    services = await calls(node)
    code = "".join(path.read_text(encoding="utf-8") for path in TESTS)
    table = "".join(line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| "))

    asked = [(service, call) for service in SERVICES for call in services[service]]
    neither = [
        f"{service}.{call}"
        for service, call in asked
        if f"{service}.{call}" not in PRIVATE
        and not is_made(service, call, code)
        and not re.search(rf"`(?:{service}\.)?{call}`", table)
    ]
    assert neither == []
    assert len(asked) > 70


async def test_every_service_is_served_or_named_as_absent(node: ModuleType) -> None:
    [row] = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| everything of")]
    absent = set(re.findall(r"`(\w+)`", row))

    assert set(await calls(node)) == {*SERVICES, *OTHERS} | absent
