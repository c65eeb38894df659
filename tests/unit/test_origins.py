"""Who may call from a web page, and what a client's address is behind proxies (contract §8, Origins)."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from snackbase.config import ConfigError, Settings
from snackbase.origins import Origins, normalized

PROXY = "10.1.2.3"
OPEN = "0.0.0.0"  # noqa: S104  # a setting under test; nothing listens


def scope(peer: str | None = "203.0.113.9", scheme: str = "http", **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"scheme": scheme, "client": (peer, 4711) if peer else None, "headers": named}


def origins(host: str = OPEN, **settings: Any) -> Origins:
    return Origins(Settings(host=host, **settings))


def test_no_origin_header_is_no_browser_and_allowed() -> None:
    assert origins().allows(scope(host="api.example"))


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("http", "api.example", "http://api.example"),
        ("http", "api.example:80", "http://api.example"),
        ("https", "api.example", "https://api.example:443"),
        ("http", "api.example:8000", "http://api.example:8000"),
        ("ws", "api.example:8000", "http://api.example:8000"),
        ("wss", "API.example", "https://api.example"),
        ("http", "[2001:db8::1]:8000", "http://[2001:db8::1]:8000"),
    ],
)
def test_the_servers_own_origin_is_allowed(scheme: str, host: str, origin: str) -> None:
    assert origins().allows(scope(scheme=scheme, host=host, origin=origin))


@pytest.mark.parametrize(
    "origin",
    [
        "https://api.example",
        "http://api.example:8001",
        "http://api.example.evil.example",
        "http://evil.example",
        "http://api.example@evil.example",
        "http://api.example/path",
        "file://",
        "null",
        "",
        "http://[",
        "http://api.example:port",
        "//api.example",
    ],
)
def test_any_other_origin_is_refused(origin: str) -> None:
    assert not origins().allows(scope(host="api.example", origin=origin))


def test_cors_origins_match_exactly() -> None:
    decide = origins(cors_origins=" https://app.example , http://localhost:5173/ ")

    assert decide.allows(scope(host="api.example", origin="https://app.example"))
    assert decide.allows(scope(host="api.example", origin="https://app.example:443"))
    assert decide.allows(scope(host="api.example", origin="http://localhost:5173"))
    for other in ("http://app.example", "https://app.example:8443", "https://www.app.example", "http://localhost:5174"):
        assert not decide.allows(scope(host="api.example", origin=other))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("*", "one by one"), ("app.example", "https://app.example.com"), ("https://a.example/path", "is not an origin")],
)
def test_a_cors_origin_that_is_none_is_a_clear_error(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=f"SNACKBASE_CORS_ORIGINS.*{complaint}"):
        origins(cors_origins=text)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:5173",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "https://localhost",
        "http://app.localhost",
    ],
)
@pytest.mark.parametrize(("host", "allowed"), [("127.0.0.1", True), ("localhost", True), ("::1", True), (OPEN, False)])
def test_a_loopback_origin_is_allowed_only_while_bound_to_loopback(host: str, allowed: bool, origin: str) -> None:
    assert origins(host).allows(scope(peer="127.0.0.1", host="127.0.0.1:8000", origin=origin)) is allowed


@pytest.mark.parametrize(("server", "allowed"), [("127.0.0.1", True), ("::1", True), ("192.0.2.7", False)])
def test_a_loopback_origin_is_refused_where_the_connection_came_in_from_outside(server: str, allowed: bool) -> None:
    request = {**scope(host="192.0.2.7:8000", origin="http://localhost:5173"), "server": (server, 8000)}

    assert origins("127.0.0.1").allows(request) is allowed


def test_a_name_that_merely_looks_like_loopback_is_refused() -> None:
    for origin in ("http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://evil.example:127"):
        assert not origins("127.0.0.1").allows(scope(host="127.0.0.1:8000", origin=origin))


def test_forwarded_host_and_scheme_are_believed_from_a_trusted_proxy_only() -> None:
    forwarded = {
        "host": "127.0.0.1:8000",
        "x_forwarded_host": "app.example",
        "x_forwarded_proto": "https",
        "origin": "https://app.example",
    }

    assert origins(trusted_proxies="10.0.0.0/8").allows(scope(peer=PROXY, **forwarded))
    assert not origins(trusted_proxies="10.0.0.0/8").allows(scope(peer="203.0.113.9", **forwarded))
    assert not origins().allows(scope(peer=PROXY, **forwarded))


def test_of_several_forwarded_hosts_the_nearest_proxys_counts() -> None:
    decide = origins(trusted_proxies=PROXY)
    claimed = {"x_forwarded_host": "evil.example, app.example", "x_forwarded_proto": "http, https"}

    assert decide.own(scope(peer=PROXY, host="inner", **claimed)) == "https://app.example"


def test_a_refusal_logs_the_origin_and_the_setting_once_a_minute() -> None:
    decide = origins()
    with capture_logs() as lines:
        for _ in range(5):
            decide.allows(scope(host="api.example", origin="https://evil.example"))
        decide.allows(scope(host="api.example", origin="https://other.example"))

    assert [line["origin"] for line in lines] == ["https://evil.example", "https://other.example"]
    assert "SNACKBASE_CORS_ORIGINS" in lines[0]["hint"]


def test_a_flood_of_refused_origins_fills_neither_log_nor_memory() -> None:
    decide = origins()
    with capture_logs() as lines:
        for number in range(1000):
            decide.allows(scope(host="api.example", origin=f"https://{number}.example"))

    assert len(lines) == 100


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        (PROXY, None, PROXY),
        (PROXY, "198.51.100.1", "198.51.100.1"),
        (PROXY, "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        (PROXY, "198.51.100.1, 10.9.9.9", "198.51.100.1"),
        (PROXY, "198.51.100.1:5000", "198.51.100.1"),
        (PROXY, "[2001:db8::7]:5000", "2001:db8::7"),
        (PROXY, "2001:db8::7", "2001:db8::7"),
        (PROXY, "nonsense", PROXY),
        (PROXY, "198.51.100.1, unknown", PROXY),
        ("::ffff:10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
        (None, None, "unknown"),
    ],
)
def test_the_client_is_the_rightmost_hop_that_is_no_trusted_proxy(
    peer: str | None, forwarded: str | None, address: str
) -> None:
    headers = {"x_forwarded_for": forwarded} if forwarded else {}

    assert origins(trusted_proxies="10.0.0.0/8").client_address(scope(peer=peer, **headers)) == address


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "local"),
    [
        ("", "127.0.0.1", None, True),
        ("", "::1", None, True),
        ("", "203.0.113.9", None, False),
        ("", "127.0.0.1", "203.0.113.9", False),
        ("", "127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", "203.0.113.9", False),
        ("127.0.0.1", "127.0.0.1", None, True),
    ],
)
def test_a_client_relayed_by_a_proxy_on_this_machine_is_not_on_this_machine(
    proxies: str, peer: str, forwarded: str | None, local: bool
) -> None:
    headers = {"x_forwarded_for": forwarded} if forwarded else {}

    assert origins("127.0.0.1", trusted_proxies=proxies).from_loopback(scope(peer=peer, **headers)) is local


def test_a_trusted_proxy_that_is_no_address_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"SNACKBASE_TRUSTED_PROXIES: 'proxy' is not an address or network"):
        origins(trusted_proxies="10.0.0.1, proxy")


def test_the_default_port_is_not_part_of_an_origin() -> None:
    assert normalized("HTTPS://App.Example:443") == "https://app.example"
    assert normalized("https://app.example:80") == "https://app.example:80"
