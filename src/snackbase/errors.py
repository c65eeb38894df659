"""Every error that leaves the process, in one tree, and every way a connection can end.

    SnackBaseError                      500 internal_error
    ├── BadRequest                      400 bad_request (and the narrower codes given by the raiser)
    ├── Unauthorized                    401 token_missing | token_invalid | token_expired | token_revoked | ...
    ├── Forbidden                       403 forbidden
    ├── NotFound                        404 not_found
    ├── MethodNotAllowed                405 method_not_allowed
    ├── RequestTimeout                  408 request_timeout
    ├── Conflict                        409 conflict
    ├── Gone                            410 position_gone
    ├── TooLarge                        413 too_large
    ├── UnsupportedMediaType            415 unsupported_media_type
    ├── ValidationFailed                422 validation_failed, with one FieldError a field
    ├── UpgradeRequired                 426 upgrade_required
    ├── HeadTooLarge                    431 head_too_large
    ├── RateLimited                     429 rate_limited
    └── Unavailable                     503 unavailable

The same snake_case word is the `code` of a REST body, of a realtime `error` message and the reason of a close
(contract §5, §6). Messages name the thing and the limit; they never hold a token, a password or SQL.
"""

from collections.abc import Sequence

import msgspec


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with one field of a request: an element of an error body's `details`."""

    field: str
    message: str
    code: str


class SnackBaseError(Exception):
    """The root: an error that carries its own HTTP status and stable code.

    Args:
        message: a sentence for the developer who reads it; shown to the client as it is.
        code: a narrower snake_case word than the class's own.
        details: one entry a field, in the order of the request.
        retry_after_s: seconds until another try makes sense; becomes `Retry-After`.

    Attributes:
        part: which of several writes it concerns, from 0; None = all or the only one.
    """

    code = "internal_error"
    status = 500
    title = "Internal error"
    part: int | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[FieldError] = (),
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code


def error_body(error: SnackBaseError, *, request_id: str | None = None) -> dict[str, object]:
    """The one shape of an error over HTTP (contract §6), also of a refused WebSocket handshake.

    `detail` repeats `message`: existing clients read either. `request_id` is given with a 500 only.
    """
    body: dict[str, object] = {
        "error": error.title,
        "message": error.message,
        "detail": error.message,
        "code": error.code,
        "details": list(error.details),
    }
    return body if request_id is None else {**body, "request_id": request_id}


class BadRequest(SnackBaseError):
    code, status, title = "bad_request", 400, "Bad request"


class Unauthorized(SnackBaseError):
    code, status, title = "token_invalid", 401, "Unauthorized"


class Forbidden(SnackBaseError):
    code, status, title = "forbidden", 403, "Forbidden"


class NotFound(SnackBaseError):
    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowed(SnackBaseError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"


class RequestTimeout(SnackBaseError):
    code, status, title = "request_timeout", 408, "Request timeout"


class Conflict(SnackBaseError):
    code, status, title = "conflict", 409, "Conflict"


class Gone(SnackBaseError):
    code, status, title = "position_gone", 410, "Gone"


class TooLarge(SnackBaseError):
    code, status, title = "too_large", 413, "Payload too large"


class UnsupportedMediaType(SnackBaseError):
    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class ValidationFailed(SnackBaseError):
    code, status, title = "validation_failed", 422, "Validation failed"


class UpgradeRequired(SnackBaseError):
    code, status, title = "upgrade_required", 426, "Upgrade required"


class HeadTooLarge(SnackBaseError):
    code, status, title = "head_too_large", 431, "Request header fields too large"


class RateLimited(SnackBaseError):
    code, status, title = "rate_limited", 429, "Too many requests"


class Unavailable(SnackBaseError):
    code, status, title = "unavailable", 503, "Service unavailable"


class Closing(msgspec.Struct, frozen=True):
    """One way the server ends a realtime connection (contract §5).

    `close_code` 10xx and 40xx: the client comes back after `retry_after_ms`. 45xx: not until the app acts.
    """

    code: str
    close_code: int
    message: str

    @property
    def retry(self) -> bool:
        return self.close_code < 4500


GOING_AWAY = Closing("going_away", 1001, "The server is stopping.")
RESTARTING = Closing("restarting", 1012, "The server restarts; reconnect and resume from your position.")
OVERLOADED = Closing("overloaded", 1013, "The server has no room for this connection now.")
TOKEN_EXPIRED = Closing("token_expired", 4001, "The access token has expired; refresh it and reconnect.")
SLOW_CONSUMER = Closing("slow_consumer", 4003, "The client reads more slowly than events arrive.")
HEARTBEAT_TIMEOUT = Closing("heartbeat_timeout", 4004, "The client did not answer a ping.")
RATE_LIMITED = Closing("rate_limited", 4006, "The client sends more messages than allowed.")
BAD_REQUEST = Closing("bad_request", 4500, "Too many messages could not be understood.")
TOKEN_INVALID = Closing("token_invalid", 4501, "The token is missing or not a valid access token.")
TOKEN_REVOKED = Closing("token_revoked", 4502, "This login has ended; log in again.")
USER_DISABLED = Closing("user_disabled", 4503, "The user is disabled or gone.")
ACCOUNT_DISABLED = Closing("account_disabled", 4504, "The account is disabled or gone.")
CONNECTION_LIMIT = Closing("connection_limit", 4505, "Too many connections for this user, address or server.")
UNSUPPORTED_VERSION = Closing("unsupported_version", 4506, "The server supports none of the offered subprotocols.")
AUTH_TIMEOUT = Closing("auth_timeout", 4507, "No token arrived in time.")


def refused_by_hook(error: SnackBaseError) -> Closing:
    """The end of a connection that a hook refuses: in the hook's own words, and not until the app acts."""
    return Closing(error.code, TOKEN_INVALID.close_code, error.message)


CLOSINGS: dict[str, Closing] = {
    closing.code: closing
    for closing in (
        GOING_AWAY,
        RESTARTING,
        OVERLOADED,
        TOKEN_EXPIRED,
        SLOW_CONSUMER,
        HEARTBEAT_TIMEOUT,
        RATE_LIMITED,
        BAD_REQUEST,
        TOKEN_INVALID,
        TOKEN_REVOKED,
        USER_DISABLED,
        ACCOUNT_DISABLED,
        CONNECTION_LIMIT,
        UNSUPPORTED_VERSION,
        AUTH_TIMEOUT,
    )
}
