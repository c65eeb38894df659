"""Many users at once: rows and tokens, made without a password hash each, which would take minutes."""

import secrets
import time
import uuid
from pathlib import Path
from typing import Any

import apsw

from snackbase.auth import Tokens
from snackbase.model import User

LIFETIME_S = 3600


def add_users(database: Path, secret: str, *, account: str, count: int, groups: tuple[str, ...] = ()) -> list[str]:
    """Write `count` members of an account, each logged in, into the database of a server that does not run.

    Args:
        account: its slug; a user of it has to exist already, whose rows are the pattern.
        secret: of the server; signs the tokens.

    Returns:
        An access token for each.
    """
    tokens = Tokens(secret.encode(), access_s=LIFETIME_S, refresh_s=LIFETIME_S, now=time.time)
    connection = apsw.Connection(str(database))
    try:
        with connection:
            found = []
            user = _row(
                connection, "_users", "account_id = (SELECT id FROM _accounts WHERE slug = ?) LIMIT 1", (account,)
            )
            login = _row(connection, "_logins", "user_id = ? LIMIT 1", (user["id"],))
            for number in range(count):
                user_id, session_id = str(uuid.uuid4()), secrets.token_urlsafe(16)
                new = user | {"id": user_id, "email": f"member{number}@example.com"}
                if groups:
                    new["groups"] = '["' + '","'.join(groups) + '"]'
                _insert(connection, "_users", new)
                _insert(connection, "_logins", login | {"sid": session_id, "user_id": user_id, "refresh_jti": "none"})
                known = User(
                    id=user_id,
                    account_id=user["account_id"],
                    email=new["email"],
                    role="user",
                    role_id=user["role_id"],
                    created_at=user["created_at"],
                )
                found.append(tokens.issue_access(known, session_id))
    finally:
        connection.close()
    return found


def _row(connection: apsw.Connection, table: str, where: str, args: tuple[Any, ...]) -> dict[str, Any]:
    cursor = connection.execute(f"SELECT * FROM {table} WHERE {where}", args)  # noqa: S608 - our own words
    values = next(iter(cursor))
    return dict(zip((name for name, _ in cursor.getdescription()), values, strict=True))


def _insert(connection: apsw.Connection, table: str, row: dict[str, Any]) -> None:
    marks = ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table}({', '.join(row)}) VALUES ({marks})", tuple(row.values()))  # noqa: S608 - names of columns
