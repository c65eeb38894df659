"""What operators and machines see of a running server: its state, its numbers, its limits and its log."""

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.support.server import ServerProcess

MakeServer = Callable[..., Awaitable[ServerProcess]]


@pytest.mark.parametrize("path", ["/live", "/ready", "/health", "/api/v1/health"])
def test_a_running_server_says_that_it_is_well(server: ServerProcess, path: str) -> None:
    answer = httpx.get(server.base_url + path)

    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_a_browser_gets_the_console(server: ServerProcess) -> None:
    answer = httpx.get(server.base_url + "/", follow_redirects=True)

    assert (answer.status_code, answer.url.path) == (200, "/_/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert '<script type="module" src="app.js">' in answer.text


def test_the_numbers_are_prometheus_text_without_a_label_that_a_client_chooses(server: ServerProcess) -> None:
    httpx.get(f"{server.base_url}/api/v1/records/some-name?token=abc")
    text = httpx.get(f"{server.base_url}/metrics").text

    for name in (
        "realtime_connections{transport=",
        "realtime_subscriptions",
        "realtime_deliveries",
        "realtime_events",
        "realtime_bytes_sent",
        "realtime_closes",
        "store_queue_length",
        "store_queue_bytes",
        "store_groups",
        "store_last_group_size",
        "log_head",
        "event_loop_lag_seconds_bucket{",
        "http_requests_total{",
        "http_request_duration_seconds_bucket{",
        "hook_calls",
        "errors_total{",
        "process_resident_memory_bytes",
    ):
        assert f"snackbase_{name}" in text
    labels = set(re.findall(r'[{,]([a-z_]+)="', text))
    assert labels <= {"transport", "result", "code", "operation", "reason", "method", "route", "status", "event", "le"}
    assert "some-name" not in text


def test_the_numbers_are_not_for_clients_of_a_proxy_on_this_machine(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.base_url}/metrics", headers={"x-forwarded-for": "203.0.113.9"})

    assert (answer.status_code, answer.json()["code"]) == (403, "metrics_local_only")
    assert "SNACKBASE_METRICS_TOKEN" in answer.json()["message"]


async def test_with_a_metrics_token_nobody_sees_the_numbers_without_it(make_server: MakeServer) -> None:
    server = await make_server(settings={"METRICS_TOKEN": "only-for-prometheus"})
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        statuses = [
            (await client.get("/metrics", headers=headers)).status_code
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer only-for-prometheus"})
        ]

    assert statuses == [401, 401, 200]
    assert "only-for-prometheus" not in server.output


def test_an_error_has_the_contracts_shape_and_a_request_id(server: ServerProcess) -> None:
    answer = httpx.get(f"{server.base_url}/api/v1/nowhere", headers={"x-request-id": "trace-0123456789"})

    assert answer.status_code == 404
    assert answer.json().keys() == {"error", "message", "detail", "code", "details"}
    assert answer.headers["x-request-id"] == "trace-0123456789"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_client_that_sends_too_much_gets_to_see_the_413(server: ServerProcess, chunked: bool) -> None:
    body = b" " * (3 << 20)
    chunks = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = httpx.post(f"{server.base_url}/api/v1/auth/login", content=chunks if chunked else body)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_body_that_never_comes_is_given_up(make_server: MakeServer) -> None:
    server = await make_server(settings={"REQUEST_TIMEOUT_SECONDS": 0.3})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"


async def test_the_log_is_structured_and_knows_requests_but_no_tokens(make_server: MakeServer) -> None:
    server = await make_server(settings={"LOG_FORMAT": "json"})
    secret = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJlLW9mLXNvbWVib2R5"
    async with httpx.AsyncClient(base_url=server.base_url) as client:
        await client.get(f"/api/v1/realtime/subscribe?token={secret}&collection=posts")
        await client.get(f"/api/v1/auth/me?token={secret}", headers={"authorization": f"Bearer {secret}"})
        await client.post("/api/v1/auth/login", json={"email": "a@example.com", "password": "an-unknown-password"})
        answer = await client.get(f"/api/v1/realtime/ws?token={secret}", headers={"x-request-id": "trace-0123456789"})
    await server.stop()

    lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    requests = [line for line in lines if line["event"] == "request"]
    assert {"/api/v1/realtime/subscribe", "/api/v1/auth/me", "/api/v1/auth/login"} <= {r["path"] for r in requests}
    assert requests[-1]["request_id"] == answer.headers["x-request-id"] == "trace-0123456789"
    for line in requests:
        assert {"method", "status", "duration_ms", "request_id", "user_id", "timestamp", "level"} <= line.keys()
    assert secret not in server.output
    assert secret.split(".")[2] not in server.output
    assert "an-unknown-password" not in server.output
    assert server.SUPERADMIN_PASSWORD not in server.output


async def test_a_request_under_way_is_answered_before_the_server_ends(make_server: MakeServer) -> None:
    server = await make_server()
    body = json.dumps({"account": "system", "email": server.SUPERADMIN_EMAIL, "password": server.SUPERADMIN_PASSWORD})
    head = f"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head.encode() + body[:5].encode())
    await writer.drain()
    stopping = asyncio.create_task(server.stop())
    while _accepts(server.port):  # noqa: ASYNC110  # another process: there is no event to wait for
        await asyncio.sleep(0.01)
    writer.write(body[5:].encode())
    answer = await reader.read()
    writer.close()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert await stopping == 0


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
