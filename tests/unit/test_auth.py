"""Tokens, passwords, limits and the secret: what is issued, what is refused, and that refusals tell nothing."""

import asyncio
import base64
import hashlib
import hmac
import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers, QueryParams

from snackbase import auth
from snackbase.auth import PasswordHasher, RateLimiter, Tokens, load_secret, token_of
from snackbase.config import ConfigError, Settings
from snackbase.errors import BadRequest, Unauthorized, Unavailable
from snackbase.model import User

SECRET = bytes(range(32))
NOW = 1_800_000_000.5
HOUR = 3600.0
WEEK = 7 * 86400.0
USER = User(
    id="11111111-1111-4111-8111-111111111111",
    account_id="22222222-2222-4222-8222-222222222222",
    email="zoë@example.com",
    role="user",
    role_id=2,
    created_at="2026-01-17T12:34:56.789Z",
)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def tokens(clock: Callable[[], float] | None = None, *, secret: bytes = SECRET) -> Tokens:
    return Tokens(secret, access_s=HOUR, refresh_s=WEEK, now=clock or Clock())


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims of an access token; `name=None` leaves one out."""
    good = {
        "iss": "snackbase",
        "sub": USER.id,
        "iat": int(NOW),
        "exp": int(NOW) + 3600,
        "jti": "j",
        "sid": "s",
        "user_id": USER.id,
        "account_id": USER.account_id,
        "email": USER.email,
        "role": USER.role,
        "type": "access",
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def signed(payload: object, *, secret: bytes = SECRET, **header: Any) -> str:
    """An HS256 token with any payload and any header, as nobody's library would make it."""
    parts = [json.dumps({"alg": "HS256", "typ": "JWT", **header}).encode()]
    parts.append(payload if isinstance(payload, bytes) else json.dumps(payload).encode())
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


def refusal(token: str | None, clock: Callable[[], float] | None = None) -> str:
    with pytest.raises(Unauthorized) as caught:
        tokens(clock).verify_access(token)
    assert token is None or len(token) < 8 or token not in caught.value.message
    return caught.value.code


# What is issued


def test_an_access_token_holds_the_claims_of_the_contract() -> None:
    token = tokens().issue_access(USER, "sid-1")
    payload = jwt.decode(token, SECRET, algorithms=["HS256"], issuer="snackbase", options={"verify_iat": False})
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    assert isinstance(payload.pop("jti"), str)
    assert payload == {
        "iss": "snackbase",
        "sub": USER.id,
        "iat": 1_800_000_000,
        "exp": 1_800_003_601,
        "sid": "sid-1",
        "user_id": USER.id,
        "account_id": USER.account_id,
        "email": USER.email,
        "role": "user",
        "type": "access",
    }


def test_a_verified_token_says_whose_it_is_and_when_it_ends() -> None:
    read = tokens().verify_access(tokens().issue_access(USER, "sid-1"))
    assert (read.user_id, read.account_id, read.session_id) == (USER.id, USER.account_id, "sid-1")
    assert (read.kind, read.expires_at) == ("user", 1_800_003_601)


def test_a_refresh_token_carries_the_id_it_was_issued_under() -> None:
    read = tokens().verify_refresh(tokens().issue_refresh(USER, "sid-1", "refresh-1"))
    assert (read.user_id, read.session_id, read.refresh_id) == (USER.id, "sid-1", "refresh-1")
    assert read.expires_at == 1_800_000_001 + WEEK


def test_two_access_tokens_of_one_moment_differ() -> None:
    assert tokens().issue_access(USER, "s") != tokens().issue_access(USER, "s")


# What is refused (S26, S27, S29)


def test_no_token_is_missing_and_nonsense_is_invalid() -> None:
    assert refusal(None) == "token_missing"
    assert refusal("") == "token_missing"
    for token in ("x", "a.b", "a.b.c", "...", "ä.ö.ü", "\ud800.b.c", "null", "Bearer x", "A" * 5000, "\x00"):
        assert refusal(token) == "token_invalid"


def test_a_token_of_another_key_is_invalid() -> None:
    assert refusal(tokens(secret=b"x" * 32).issue_access(USER, "s")) == "token_invalid"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_token_changed_in_any_part_is_invalid(place: int) -> None:
    parts = tokens().issue_access(USER, "s").split(".")
    changed = "B" if parts[place][4] != "B" else "C"
    parts[place] = parts[place][:4] + changed + parts[place][5:]
    assert refusal(".".join(parts)) == "token_invalid"


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "HS384", "HS512", "RS256", "ES256", "hs256", ""])
def test_only_the_pinned_algorithm_is_believed(algorithm: str) -> None:
    assert refusal(signed(claims(), alg=algorithm)) == "token_invalid"


def test_an_unsigned_token_is_invalid() -> None:
    unsigned = jwt.encode(claims(), "", algorithm="none")
    assert refusal(unsigned) == "token_invalid"
    assert refusal(unsigned.rstrip(".")) == "token_invalid"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_another_hash_under_the_same_key_is_invalid(algorithm: str) -> None:
    long = bytes(range(64))
    other = Tokens(long, access_s=HOUR, refresh_s=WEEK, now=Clock())
    with pytest.raises(Unauthorized):
        other.verify_access(jwt.encode(claims(), long, algorithm=algorithm))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"crit": []},
        {"kid": 7},
    ],
)
def test_a_header_that_asks_for_more_than_is_understood_is_refused(header: dict[str, Any]) -> None:
    assert refusal(signed(claims(), **header)) == "token_invalid"


@pytest.mark.parametrize(
    "header", [{"kid": "../../secret"}, {"jku": "http://127.0.0.1:1/"}, {"x5u": "http://127.0.0.1:1/"}]
)
def test_a_header_that_names_another_key_is_not_followed(header: dict[str, Any]) -> None:
    stranger = signed(claims(), secret=b"y" * 32, **header)
    assert refusal(stranger) == "token_invalid"


def test_an_encrypted_token_is_invalid() -> None:
    assert refusal("eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..AAAA.AAAA.AAAA") == "token_invalid"


@pytest.mark.parametrize("name", ["iss", "sub", "iat", "exp", "jti", "sid", "user_id", "account_id", "type"])
def test_every_claim_is_required(name: str) -> None:
    assert tokens().verify_access(signed(claims())).user_id == USER.id
    assert refusal(signed(claims(**{name: None}))) == "token_invalid"


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": "1800003600"},
        {"exp": True},
        {"exp": [1]},
        {"exp": 10**400},
        {"exp": int(NOW) + 3600 + 3},
        {"exp": int(NOW) + 10 * 365 * 86400},
        {"exp": -1, "iat": -5},
        {"iat": "now"},
        {"iat": int(NOW) - 10**6},
        {"sub": 7},
        {"sub": ""},
        {"sub": "somebody else"},
        {"sid": ""},
        {"sid": 5},
        {"account_id": ""},
        {"iss": "https://elsewhere.example"},
        {"iss": ["snackbase"]},
        {"aud": "snackbase"},
        {"aud": ["other"]},
        {"type": "Access"},
        {"type": "api_key"},
        {"type": "reset"},
        {"nbf": "soon"},
    ],
)
def test_a_claim_of_the_wrong_kind_or_value_is_refused(changed: dict[str, Any]) -> None:
    code = refusal(signed(claims(**changed)))
    assert code == ("token_expired" if changed.get("exp") == -1 else "token_invalid")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"7", b'"x"', b"{", b"\xff", b"[" * 2000, b'{"exp":NaN}', b'{"exp":1e999}']
)
def test_a_signed_payload_that_is_no_object_of_claims_is_refused(body: bytes) -> None:
    assert refusal(signed(body)) == "token_invalid"


def test_nan_and_infinite_expiry_are_refused() -> None:
    for number in ("NaN", "Infinity", "1e999"):
        body = json.dumps(claims(exp=12345)).replace("12345", number).encode()
        assert refusal(signed(body)) == "token_invalid"


def test_a_refresh_token_is_no_access_token_and_the_other_way_round() -> None:
    issued = tokens()
    assert refusal(issued.issue_refresh(USER, "s", "r")) == "token_invalid"
    with pytest.raises(Unauthorized) as caught:
        issued.verify_refresh(issued.issue_access(USER, "s"))
    assert caught.value.code == "token_invalid"


def test_a_refresh_token_lives_no_longer_than_the_setting_says() -> None:
    with pytest.raises(Unauthorized):
        tokens().verify_refresh(signed(claims(type="refresh", exp=int(NOW) + int(WEEK) + 3)))


def test_expiry_is_exact_and_issue_may_lie_five_seconds_ahead() -> None:
    clock = Clock()
    token = signed(claims())
    clock.now = NOW + 3599
    assert tokens(clock).verify_access(token).user_id == USER.id
    clock.now = int(NOW) + 3600
    assert refusal(token, clock) == "token_expired"
    clock.now = int(NOW) - 5
    assert tokens(clock).verify_access(token).user_id == USER.id
    clock.now = int(NOW) - 5.5
    assert refusal(token, clock) == "token_invalid"


def test_a_token_that_begins_later_is_refused_until_then() -> None:
    clock = Clock()
    token = signed(claims(nbf=int(NOW) + 60))
    assert refusal(token, clock) == "token_invalid"
    clock.now = NOW + 56
    assert tokens(clock).verify_access(token).user_id == USER.id


def test_a_token_read_before_is_judged_by_the_clock_again() -> None:
    """S28: the wall clock jumps; what was verified once is neither believed after its end nor before its beginning."""
    clock = Clock()
    reader = tokens(clock)
    token = reader.issue_access(USER, "s")
    first = reader.verify_access(token)
    assert reader.verify_access(token) is first
    clock.now += 86400
    with pytest.raises(Unauthorized) as caught:
        reader.verify_access(token)
    assert caught.value.code == "token_expired"
    clock.now -= 86400 + 3600
    with pytest.raises(Unauthorized) as caught:
        reader.verify_access(token)
    assert caught.value.code == "token_invalid"
    clock.now = NOW
    assert reader.verify_access(token) is first


def test_the_memory_of_read_tokens_is_bounded_and_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_CACHED_TOKENS", 3)
    reader = tokens()
    issued = [reader.issue_access(USER, f"s{number}") for number in range(10)]
    for token in issued:
        reader.verify_access(token)
    assert len(reader._verified) == 3
    assert not any(token.encode() in repr(reader._verified).encode() for token in issued)
    assert [reader.verify_access(token).session_id for token in issued] == [f"s{number}" for number in range(10)]


@given(st.text(max_size=300))
def test_any_text_as_a_token_is_refused_with_a_401(text: str) -> None:
    with pytest.raises(Unauthorized):
        tokens().verify_access(text)


@given(st.binary(max_size=120))
def test_any_signed_bytes_are_refused_with_a_401(body: bytes) -> None:
    with pytest.raises(Unauthorized):
        tokens().verify_access(signed(body))


# Where a token is looked for


def found(*headers: tuple[str, str], query: str | None = None, subprotocol: str | None = None) -> str | None:
    raw = [(name.encode(), value.encode()) for name, value in headers]
    return token_of(Headers(raw=raw), None if query is None else QueryParams(query), subprotocol=subprotocol)


def test_a_token_is_found_in_each_of_its_places() -> None:
    assert found(("authorization", "Bearer t1")) == "t1"
    assert found(("authorization", "bearer  t1 ")) == "t1"
    assert found(("x-api-key", "t1")) == "t1"
    assert found(query="token=t1") == "t1"
    assert found(subprotocol="t1") == "t1"


def test_what_is_no_token_of_ours_is_none() -> None:
    assert found() is None
    assert found(("authorization", "Basic dXNlcjpwYXNz")) is None
    assert found(("authorization", "Bearer")) is None
    assert found(("x-api-key", " ")) is None
    assert found(query="token=&other=1") is None
    assert found(("cookie", "token=t1")) is None


def test_a_query_is_not_looked_at_where_tokens_may_not_stand_in_it() -> None:
    assert token_of(Headers({}), None) is None


def test_the_same_token_twice_is_one() -> None:
    assert found(("authorization", "Bearer t1"), ("x-api-key", "t1"), query="token=t1", subprotocol="t1") == "t1"


@pytest.mark.parametrize(
    ("headers", "query", "subprotocol"),
    [
        ([("authorization", "Bearer t1"), ("x-api-key", "t2")], None, None),
        ([("authorization", "Bearer t1"), ("authorization", "Bearer t2")], None, None),
        ([("authorization", "Bearer t1")], "token=t2", None),
        ([], "token=t1&token=t2", None),
        ([], "token=t1", "t2"),
    ],
)
def test_two_different_tokens_are_a_conflict(
    headers: list[tuple[str, str]], query: str | None, subprotocol: str | None
) -> None:
    with pytest.raises(BadRequest) as caught:
        found(*headers, query=query, subprotocol=subprotocol)
    assert caught.value.code == "token_conflict"
    assert "t1" not in caught.value.message


# Passwords (finding 14, S61, S62)


async def test_a_password_fits_its_own_hash_only() -> None:
    hasher = PasswordHasher(threads=1, queue=4)
    hashed = await hasher.hash("correct horse")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.verify(hashed, "correct horse")
    assert not await hasher.verify(hashed, "correct horsf")
    assert not await hasher.verify("no hash at all", "correct horse")
    hasher.close()


async def test_a_password_is_the_same_in_either_spelling_of_its_accents() -> None:
    hasher = PasswordHasher(threads=1, queue=4)
    assert await hasher.verify(await hasher.hash("caf\u00e9 noir"), "cafe\u0301 noir")
    hasher.close()


async def test_an_absent_user_costs_the_same_work_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """S61 without a stopwatch: both run exactly one verification with the same parameters."""
    hasher = PasswordHasher(threads=1, queue=4)
    hashed = await hasher.hash("correct horse")
    worked: list[str] = []
    original = hasher._matches

    def recording(tried: str, prepared: bytes) -> bool:
        worked.append("$".join(tried.split("$")[:4]))
        return original(tried, prepared)

    monkeypatch.setattr(hasher, "_matches", recording)
    assert not await hasher.verify(hashed, "wrong")
    assert not await hasher.verify(None, "wrong")
    assert worked == ["$argon2id$v=19$m=19456,t=2,p=1"] * 2
    hasher.close()


async def test_more_passwords_than_may_wait_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = PasswordHasher(threads=1, queue=2)
    working, go_on = threading.Event(), threading.Event()

    def slow(_hashed: str, _prepared: bytes) -> bool:
        working.set()
        return go_on.wait(10)

    monkeypatch.setattr(hasher, "_matches", slow)  # holds the only thread until the test lets go
    waiting = [asyncio.create_task(hasher.verify(None, "x")) for _ in range(3)]
    await asyncio.to_thread(working.wait, 10)
    with pytest.raises(Unavailable) as caught:
        await hasher.verify(None, "x")
    assert caught.value.retry_after_s
    go_on.set()
    await asyncio.gather(*waiting)
    assert await hasher.verify(None, "x") is False
    hasher.close()


# Limits


def test_tries_are_limited_and_regained_evenly() -> None:
    clock = Clock(0)
    limiter = RateLimiter(limit=6, window_s=60, now=clock)
    assert [limiter.take("a") for _ in range(6)] == [0] * 6
    assert limiter.take("a") == pytest.approx(10)
    assert limiter.take("b") == 0
    clock.now = 4
    assert limiter.take("a") == pytest.approx(6)
    clock.now = 10
    assert limiter.take("a") == 0
    assert limiter.take("a") == pytest.approx(10)


def test_a_try_given_back_never_exceeds_the_limit() -> None:
    limiter = RateLimiter(limit=2, window_s=60, now=Clock(0))
    limiter.take("a")
    limiter.give_back("a")
    limiter.give_back("a")
    assert [limiter.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_no_limit_means_none() -> None:
    limiter = RateLimiter(limit=0, window_s=60, now=Clock(0))
    assert [limiter.take("a") for _ in range(1000)] == [0] * 1000


def test_only_so_many_keys_are_remembered() -> None:
    limiter = RateLimiter(limit=1, window_s=60, now=Clock(0), max_keys=10)
    for number in range(100):
        assert limiter.take(f"key {number}") == 0
    assert len(limiter._buckets) == 10
    assert limiter.take("key 99") > 0
    assert limiter.take("key 0") == 0


# The secret (S63)


def settings(folder: Path, secret_key: str = "") -> Settings:
    return Settings(database_url=f"sqlite:///{folder}/data/snackbase.db", secret_key=secret_key)


def test_a_secret_is_generated_once_readable_by_the_owner_only(tmp_path: Path) -> None:
    first = load_secret(settings(tmp_path))
    path = tmp_path / "data" / "secret"
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_secret(settings(tmp_path)) == first
    assert [entry.name for entry in path.parent.iterdir()] == ["secret"]


def test_two_data_folders_get_two_secrets(tmp_path: Path) -> None:
    assert load_secret(settings(tmp_path / "a")) != load_secret(settings(tmp_path / "b"))


def test_processes_that_start_at_once_agree_on_one_secret(tmp_path: Path) -> None:
    start = threading.Barrier(8)
    secrets: list[bytes] = []

    def begin() -> None:
        start.wait(10)
        secrets.append(load_secret(settings(tmp_path)))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(secrets) == 8
    assert len(set(secrets)) == 1


def test_a_secret_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    load_secret(settings(tmp_path))
    path = tmp_path / "data" / "secret"
    path.chmod(0o644)
    load_secret(settings(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_secret_of_the_settings_is_used_as_it_is_and_written_nowhere(tmp_path: Path) -> None:
    key = "0f8b3c2d9e7a41655c3b2a190f8e7d6c5b4a39281706f5e4"
    assert load_secret(settings(tmp_path, key)) == key.encode()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "secret",
    [
        "secret",
        "change-me",
        "0123456789abcdefghijklmnopqrstu",
        "changeme-changeme-changeme-changeme-changeme",
        "change-this-secret-in-production-please-now",
        "your-secret-key-that-is-at-least-32-bytes-long",
        "please change me before you go to production!",
        "my_super_secret_key_0123456789_0123456789",
        "a" * 64,
        "12341234123412341234123412341234",
    ],
)
def test_a_short_or_known_secret_is_refused_without_repeating_it(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigError, match="SNACKBASE_SECRET_KEY") as caught:
        load_secret(settings(tmp_path, secret))
    assert secret not in str(caught.value).removeprefix("SNACKBASE_SECRET_KEY").replace("secrets", "")


def test_a_broken_secret_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    path.parent.mkdir()
    path.write_bytes(b"half\n")
    with pytest.raises(ConfigError, match="shorter than 32 bytes"):
        load_secret(settings(tmp_path))
    assert path.read_bytes() == b"half\n"


def test_a_data_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file, not a folder")
    with pytest.raises(ConfigError, match="cannot be used"):
        load_secret(settings(tmp_path))
