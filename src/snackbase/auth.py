"""Proofs of identity without a database: signed tokens, API keys, password hashes, attempt limits, the signing secret.

Owns the formats and their checks. Promises that a token is read only after its signature held, that equal work is done
for present and absent users, and that everything is bounded. Must not look up users or logins (that is
services/authenticate.py), and never puts a token, a password or the secret into a message. Step 1 of the path.

    token claims (contract §8, HS256)   iss sub iat exp jti sid user_id account_id type; access also email role
    clock                               `exp` is exact; `iat` and `nbf` may lie up to CLOCK_SKEW_S ahead (other nodes)
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import math
import os
import re
import secrets
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import argon2
import jwt
import msgspec

from snackbase.config import ConfigError, Settings
from snackbase.errors import BadRequest, Unauthorized
from snackbase.model import User
from snackbase.workers import Workers

ISSUER = "snackbase"
ALGORITHM = "HS256"
CLOCK_SKEW_S = 5.0
"""How far ahead another node's clock may be when it issues a token. Expiry gets no such grace."""
MAX_TOKEN_CHARS = 4096
MAX_CACHED_TOKENS = 4096
MIN_SECRET_BYTES = 32
"""An HMAC key shorter than the hash's output weakens it (RFC 7518 §3.2)."""
MAX_PASSWORD_CHARS = 256


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified access token or key says: whose it is, never what they may do.

    kind: "user" | "api_key". Times are seconds since the epoch; a key that never expires has `expires_at` = inf.
    """

    user_id: str
    account_id: str
    session_id: str
    expires_at: float
    issued_at: float = 0.0
    kind: str = "user"


class RefreshClaims(msgspec.Struct, frozen=True, kw_only=True):
    """What a verified refresh token says. `refresh_id`: its `jti`; only a login's newest one may be used."""

    user_id: str
    account_id: str
    session_id: str
    refresh_id: str
    expires_at: float


class _Payload(msgspec.Struct):
    """The claims required of every token of ours; a missing or wrongly typed one makes the token invalid."""

    iss: str
    sub: str
    iat: float
    exp: float
    jti: str
    sid: str
    user_id: str
    account_id: str
    type: str
    nbf: float = 0.0
    aud: Any = None


class Tokens:
    """Issues and verifies JWTs signed with one secret.

    Args:
        access_s, refresh_s: lifetimes; a token that claims a longer one is invalid.
        now: wall clock, seconds since the epoch.
    """

    def __init__(self, secret: bytes, *, access_s: float, refresh_s: float, now: Callable[[], float]) -> None:
        self._secret = secret
        self._lifetime_s = {"access": access_s, "refresh": refresh_s}
        self._now = now
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])
        # The header of every token of ours; what begins otherwise may still be right, and is read the long way.
        self._head = jwt.encode({}, secret, algorithm=ALGORITHM).partition(".")[0] + "."
        # Only what a signature proved is kept, and under a hash, so that no dump of the process holds usable tokens.
        self._verified: dict[bytes, Claims] = {}

    @property
    def access_s(self) -> float:
        return self._lifetime_s["access"]

    @property
    def refresh_s(self) -> float:
        return self._lifetime_s["refresh"]

    def issue_access(self, user: User, session_id: str) -> str:
        return self._issue(user, session_id, "access", secrets.token_urlsafe(12), email=user.email, role=user.role)

    def issue_refresh(self, user: User, session_id: str, refresh_id: str) -> str:
        return self._issue(user, session_id, "refresh", refresh_id)

    def verify_access(self, token: str | None) -> Claims:
        """Read an access token.

        Raises:
            Unauthorized: code token_missing, token_invalid or token_expired.
        """
        if not token:
            raise Unauthorized("A token is required.", code="token_missing")
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(digest)
        if claims is None:
            payload = self._read(token, "access")
            claims = Claims(
                user_id=payload.user_id,
                # One text for all members of an account, however many are connected.
                account_id=sys.intern(payload.account_id),
                session_id=payload.sid,
                expires_at=payload.exp,
                issued_at=max(payload.iat, payload.nbf),
            )
            if len(self._verified) >= MAX_CACHED_TOKENS:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = claims
        self._check_times(claims.issued_at, claims.expires_at)
        return claims

    def verify_refresh(self, token: str) -> RefreshClaims:
        """Read a refresh token; raises Unauthorized like `verify_access`."""
        payload = self._read(token, "refresh")
        self._check_times(max(payload.iat, payload.nbf), payload.exp)
        return RefreshClaims(
            user_id=payload.user_id,
            account_id=payload.account_id,
            session_id=payload.sid,
            refresh_id=payload.jti,
            expires_at=payload.exp,
        )

    def check_expiry(self, claims: Claims) -> None:
        """Raises Unauthorized (token_expired) when verified claims are over by now."""
        self._check_times(claims.issued_at, claims.expires_at)

    def _issue(self, user: User, session_id: str, kind: str, token_id: str, **more: str) -> str:
        now = self._now()
        payload = {
            "iss": ISSUER,
            "sub": user.id,
            # Whole seconds, as every library expects; rounded outwards, so that a lifetime is never shorter than set.
            "iat": math.floor(now),
            "exp": math.ceil(now + self._lifetime_s[kind]),
            "jti": token_id,
            "sid": session_id,
            "user_id": user.id,
            "account_id": user.account_id,
            "type": kind,
            **more,
        }
        return jwt.encode(payload, self._secret, algorithm=ALGORITHM)

    def _own_body(self, token: str) -> bytes | None:
        """The payload of a token that has our header to the letter and our signature; None = look closer.

        Nothing of the token is decoded before its signature held: our own one is encoded and compared as text.
        """
        signed, _, signature = token.rpartition(".")
        if not signed.startswith(self._head):
            return None
        own = base64.urlsafe_b64encode(hmac.digest(self._secret, signed.encode(), "sha256")).rstrip(b"=")
        if not hmac.compare_digest(own, signature.encode()):
            return None
        body = signed[len(self._head) :]
        return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))

    def _read(self, token: str, kind: str) -> _Payload:
        if len(token) > MAX_TOKEN_CHARS or not token.isascii():
            raise _invalid()
        try:
            # The payload is decoded only when the signature held under the pinned algorithm (RFC 8725 §3.1); `kid`,
            # `jku` and `x5u` are never followed, an unknown `crit` is refused.
            body = self._own_body(token) or self._jws.decode(token, self._secret, algorithms=[ALGORITHM])
            payload = msgspec.json.decode(body, type=_Payload)
        except (jwt.InvalidTokenError, msgspec.DecodeError, binascii.Error, RecursionError):
            raise _invalid() from None
        lifetime = payload.exp - payload.iat
        if (
            # Kinds are mutually exclusive (RFC 8725 §3.12): a refresh token is not an access token.
            payload.type != kind
            or payload.iss != ISSUER
            or payload.aud is not None
            or payload.sub != payload.user_id
            or not (payload.sub and payload.sid and payload.jti and payload.account_id)
            or not 0 < lifetime <= self._lifetime_s[kind] + 2
        ):
            raise _invalid()
        return payload

    def _check_times(self, issued_at: float, expires_at: float) -> None:
        now = self._now()
        if issued_at > now + CLOCK_SKEW_S:
            raise _invalid()
        if now >= expires_at:
            raise Unauthorized("The token has expired.", code="token_expired")


def _invalid() -> Unauthorized:
    # One text for every cause: it tells nobody which check of theirs came closest.
    return Unauthorized("The token is not valid.", code="token_invalid")


KEY_PREFIX = "sb_ak."
_KEY = re.compile(r"sb_ak\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([A-Za-z0-9_-]{43})\Z")


def new_key(key_id: str) -> tuple[str, str]:
    """A new API key of this id, and the hash of its secret: all that may be kept of it."""
    secret = secrets.token_urlsafe(32)
    return f"{KEY_PREFIX}{key_id}.{secret}", _secret_hash(secret)


def read_key(token: str) -> tuple[str, str]:
    """The id and the secret's hash of an API key. Raises Unauthorized (token_invalid) when it has not its form."""
    match = _KEY.match(token)
    if match is None:
        raise _invalid()
    return match[1], _secret_hash(match[2])


def check_key(given_hash: str, kept_hash: str | None) -> None:
    """Compare in constant time, also with no key at all. Raises Unauthorized (token_invalid)."""
    if not hmac.compare_digest(given_hash, kept_hash or _secret_hash("")) or kept_hash is None:
        raise _invalid()


def _secret_hash(secret: str) -> str:
    # 256 random bits need no slow hash; whoever reads the database cannot go back to them.
    return hashlib.sha256(secret.encode()).hexdigest()


class MultiValues(Protocol):
    """Headers or query parameters: several values a name. Starlette's Headers and QueryParams are such."""

    def getlist(self, key: str) -> list[str]: ...


def token_of(headers: MultiValues, query: MultiValues | None = None, *, subprotocol: str | None = None) -> str | None:
    """The one token a request presents, or None.

    Looked for in `?token=` (when `query` is given), `Authorization: Bearer`, `X-API-Key`, and a WebSocket subprotocol
    that the gateway passes in. Another scheme than Bearer is somebody else's (a proxy's) and no token.

    Raises:
        BadRequest: code token_conflict, when two different tokens are presented (contract §3).
    """
    found = [*headers.getlist("x-api-key"), *(query.getlist("token") if query is not None else ())]
    if subprotocol is not None:
        found.append(subprotocol)
    tokens = ({value.strip() for value in found} - {""}) | _bearers(headers)
    if len(tokens) > 1:
        raise BadRequest("Two different tokens were presented; send one.", code="token_conflict")
    return tokens.pop() if tokens else None


def rest_token_of(headers: MultiValues) -> str | None:
    """`token_of` for REST, where a login's token outranks an API key that is sent along.

    The JavaScript SDK sends its key in X-API-Key with every request, also when somebody has logged in. A login that has
    ended is then refused: the key never steps in for it.

    Raises:
        BadRequest: token_conflict: two logins, or two keys.
    """
    try:
        return token_of(headers)
    except BadRequest:
        keys, bearers = headers.getlist("x-api-key"), _bearers(headers)
        given = {value.strip() for value in keys}
        if not all(key.startswith(KEY_PREFIX) for key in given) or any(one.startswith(KEY_PREFIX) for one in bearers):
            raise
        if len(bearers) != 1 or len(given) != 1:
            raise
        return bearers.pop()


def _bearers(headers: MultiValues) -> set[str]:
    found = set()
    for value in headers.getlist("authorization"):
        scheme, _, credentials = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            found.add(credentials.strip())
    return found - {""}


class PasswordHasher:
    """argon2id in a bounded pool of threads: 19 MiB, 2 passes, 1 lane (OWASP's minimum; 28 ms of CPU measured,
    against 214 ms for the library's defaults).

    Args:
        threads: hashes computed at once.
        queue: hashes that may wait; above, Unavailable at once, so that a flood of logins starves nobody else.
    """

    def __init__(self, *, threads: int, queue: int) -> None:
        self._argon2 = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._workers = Workers(threads, queued=queue, name="password-hash")
        self._dummy = self._argon2.hash(secrets.token_hex(16))

    async def hash(self, password: str) -> str:
        prepared = _prepared(password)
        return await self._workers.run(lambda: self._argon2.hash(prepared))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether the password is the one. `hashed` None (no such user) costs the same time and is False."""
        prepared = _prepared(password)
        matches = await self._workers.run(lambda: self._matches(hashed or self._dummy, prepared))
        return matches and hashed is not None

    def close(self) -> None:
        self._workers.close()

    def _matches(self, hashed: str, prepared: bytes) -> bool:
        try:
            return self._argon2.verify(hashed, prepared)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False


def _prepared(password: str) -> bytes:
    # One spelling of each character whatever keyboard or system it came from (RFC 8265 §4.2).
    return unicodedata.normalize("NFC", password[: MAX_PASSWORD_CHARS + 1]).encode("utf-8", "surrogatepass")


class RateLimiter:
    """`limit` tries a key, regained evenly over `window_s` (a token bucket). At most `max_keys` keys are remembered;
    the one not used for longest is forgotten first.

    Args:
        limit: 0 = no limit.
        now: a monotonic clock, seconds.
    """

    def __init__(self, *, limit: int, window_s: float, now: Callable[[], float], max_keys: int = 20_000) -> None:
        self._limit = limit
        self._per_second = limit / window_s
        self._now = now
        self._max_keys = max_keys
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> float:
        """Use up one try. Returns 0, or the seconds until there is one (then none was used)."""
        if not self._limit:
            return 0
        left = self._left(key)
        if left < 1:
            return (1 - left) / self._per_second
        self._put(key, left - 1)
        return 0

    def give_back(self, key: str) -> None:
        """Return the try that `take` used: it was no failure."""
        if self._limit:
            self._put(key, self._left(key) + 1)

    def _left(self, key: str) -> float:
        left, at = self._buckets.get(key, (float(self._limit), 0.0))
        return min(self._limit, left + (self._now() - at) * self._per_second)

    def _put(self, key: str, left: float) -> None:
        self._buckets.pop(key, None)
        self._buckets[key] = (left, self._now())
        if len(self._buckets) > self._max_keys:
            del self._buckets[next(iter(self._buckets))]


_KNOWN_DEFAULTS = re.compile(
    r"change_?(me|this|it|in)|your_?(secret|key)|(super|my)_?secret|secret_?key|insecure|placeholder|replace_?(me|this)"
)


def load_secret(settings: Settings) -> bytes:
    """The key that signs tokens: SECRET_KEY, or one generated once into the data folder (mode 0600).

    Raises:
        ConfigError: the secret is shorter than 32 bytes, a known default, guessable, or its file cannot be used.
    """
    if settings.secret_key:
        return _checked(settings.secret_key.encode("utf-8", "surrogateescape"), "SNACKBASE_SECRET_KEY")
    path = settings.data_dir / "secret"
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create_secret(path)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        text = path.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"The file {path} cannot be used: {error.strerror}") from error
    return _checked(text, f"The file {path}")


def _checked(secret: bytes, where: str) -> bytes:
    advice = "use `python -c 'import secrets; print(secrets.token_hex(32))'`, or set none and one is generated"
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(f"{where} is shorter than {MIN_SECRET_BYTES} bytes; {advice}")
    plain = secret.decode("utf-8", "replace").lower().replace("-", "_").replace(" ", "_")
    if len(set(secret)) < 8 or _KNOWN_DEFAULTS.search(plain):
        raise ConfigError(f"{where} is a known default or can be guessed; {advice}")
    return secret


def _create_secret(path: Path) -> None:
    # Written under another name and linked into place: whoever loses the race reads a complete secret, never half.
    draft = path.with_name(f"secret.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
