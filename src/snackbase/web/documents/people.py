"""What the routes of logins, accounts and users take and give."""

from collections.abc import Iterable
from typing import Any

from snackbase.model import Account, User
from snackbase.services.accounts import Me
from snackbase.services.logins import Login
from snackbase.storage.directory import ACCOUNT_ORDERS, USER_ORDERS
from snackbase.web.accounts import (
    AccountBody,
    AccountChangeBody,
    LoginBody,
    NewPasswordBody,
    PasswordBody,
    RefreshBody,
    RegisterBody,
    UserBody,
    UserChangeBody,
)
from snackbase.web.documents.operation import FLAG, MESSAGE, TEXT, Operation, Operations, Parameter, page_of
from snackbase.web.paging import MAX_PAGE

AUTH = "/api/v1/auth"
ACCOUNTS = "/api/v1/accounts"
USERS = "/api/v1/users"

_SIZE: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 30}
PAGE = (
    Parameter("skip", {"type": "integer", "minimum": 0, "maximum": 100_000_000, "default": 0}),
    Parameter("limit", _SIZE),
    Parameter("page", {"type": "integer", "minimum": 1, "maximum": 1_000_000}, "Another way to say skip."),
    Parameter("page_size", _SIZE, "Another word for limit."),
)
_SEARCH = Parameter("search", TEXT, "Part of a name.")
_ACTIVE = Parameter("is_active", FLAG)


def order_by(fields: Iterable[str]) -> tuple[Parameter, ...]:
    """The parameters for the order of a list."""
    names = sorted(fields)
    return (
        Parameter("sort", {"enum": [*names, *(f"-{name}" for name in names)]}),
        Parameter("sort_by", {"enum": names}, "Another way to say sort, with sort_order."),
        Parameter("sort_order", {"enum": ["asc", "desc"]}),
    )


USERS_WANTED = (
    _SEARCH,
    Parameter("role_id", {"type": "integer", "minimum": 0}),
    _ACTIVE,
    *order_by(USER_ORDERS),
    *PAGE,
)
_USERS = (Parameter("account_id", TEXT), Parameter("group", TEXT, "A group's name."), *USERS_WANTED)
WELCOME = {"allOf": [Login, MESSAGE]}
_CHANGE_ACCOUNT = Operation(
    summary="Change an account", tag="accounts", body=AccountChangeBody, answer=Account, errors=(409,)
)

OPERATIONS: Operations = {
    ("POST", AUTH + "/register"): Operation(
        summary="Create an account, or join an open one",
        tag="auth",
        body=RegisterBody,
        answer=WELCOME,
        status=201,
        access="open",
        errors=(403, 409, 429),
    ),
    ("POST", AUTH + "/login"): Operation(
        summary="Log in", tag="auth", body=LoginBody, answer=Login, access="open", errors=(401, 429)
    ),
    ("POST", AUTH + "/refresh"): Operation(
        summary="Fresh tokens for a refresh token, which is used up",
        tag="auth",
        body=RefreshBody,
        answer=Login,
        access="open",
        errors=(401,),
    ),
    ("POST", AUTH + "/logout"): Operation(summary="End this login", tag="auth", answer=MESSAGE),
    ("POST", AUTH + "/password"): Operation(
        summary="Change your password; ends all your other logins",
        tag="auth",
        body=PasswordBody,
        answer=MESSAGE,
        errors=(429,),
    ),
    ("GET", AUTH + "/me"): Operation(summary="Who the token is for", tag="auth", answer=Me),
    ("GET", ACCOUNTS): Operation(
        summary="A page of accounts",
        tag="accounts",
        query=(_SEARCH, _ACTIVE, *order_by(ACCOUNT_ORDERS), *PAGE),
        answer=page_of(Account),
        errors=(422,),
    ),
    ("POST", ACCOUNTS): Operation(
        summary="Make an account", tag="accounts", body=AccountBody, answer=Account, status=201, errors=(409,)
    ),
    ("GET", ACCOUNTS + "/{account}"): Operation(
        summary="One account, by id, code or slug", tag="accounts", answer=Account
    ),
    ("PUT", ACCOUNTS + "/{account}"): _CHANGE_ACCOUNT,
    ("PATCH", ACCOUNTS + "/{account}"): _CHANGE_ACCOUNT,
    ("DELETE", ACCOUNTS + "/{account}"): Operation(
        summary="Disable an account", tag="accounts", status=204, errors=(409,)
    ),
    ("GET", ACCOUNTS + "/{account}/users"): Operation(
        summary="A page of an account's users", tag="users", query=_USERS, answer=page_of(User), errors=(422,)
    ),
    ("GET", USERS): Operation(
        summary="A page of users",
        tag="users",
        query=_USERS,
        answer=page_of(User),
        errors=(422,),
    ),
    ("POST", USERS): Operation(
        summary="Make a user", tag="users", body=UserBody, answer=User, status=201, errors=(409,)
    ),
    ("GET", USERS + "/{user_id}"): Operation(summary="One user", tag="users", answer=User),
    ("PATCH", USERS + "/{user_id}"): Operation(
        summary="Change a user", tag="users", body=UserChangeBody, answer=User, errors=(409,)
    ),
    ("DELETE", USERS + "/{user_id}"): Operation(summary="Disable a user", tag="users", status=204, errors=(409,)),
    ("PUT", USERS + "/{user_id}/password"): Operation(
        summary="Set a user's password; ends all their logins", tag="users", body=NewPasswordBody, answer=MESSAGE
    ),
}
