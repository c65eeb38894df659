"""What the tests of the rules share: the fields of an imagined collection and one question to both back ends."""

from typing import Any

import apsw

from snackbase.rules import IN_TIME, Auth, Kind, Rule, check, parse, predicate, to_sql
from tests.unit.rules.reference import stored

FIELDS = {
    "id": Kind.TEXT,
    "created_by": Kind.TEXT,
    "created_at": Kind.DATETIME,
    "title": Kind.TEXT,
    "room": Kind.TEXT,
    "views": Kind.NUMBER,
    "likes": Kind.NUMBER,
    "done": Kind.BOOLEAN,
    "day": Kind.DATE,
    "members": Kind.JSON,
}
MEMBER = Auth("u1", "ann@example.org", "editor", "acme", ("g1", "g2"))
GUEST = Auth(None, None, None, None)


def rule(text: str, **options: Any) -> Rule:
    return check(parse(text), FIELDS, **options)


def sqlite(rule: Rule, auth: Auth, *, data: Any = None) -> tuple[str, list[object]]:
    """The condition and what it binds, with positional placeholders."""
    bound: list[object] = []

    def param(value: object) -> str:
        bound.append(value)
        return "?"

    return to_sql(rule, auth, dialect="sqlite", column=lambda name: f'"{name}"', param=param, data=data), bound


def judged(rule: Rule, record: dict[str, Any], auth: Auth = MEMBER, *, data: Any = None) -> bool:
    """The answer of the predicate, once SQLite has given the same."""
    answer = predicate(rule, auth, data=data)(record)
    condition, bound = sqlite(rule, auth, data=data)
    types = {Kind.NUMBER: "REAL", Kind.BOOLEAN: "INTEGER"}
    columns = ", ".join(f'"{name}" {types.get(kind, "TEXT")}' for name, kind in FIELDS.items())
    connection = apsw.Connection(":memory:")
    connection.create_scalar_function(IN_TIME, lambda *_: 1, 0)
    connection.execute(f"CREATE TABLE records ({columns})")
    row = [stored(record.get(name), kind) for name, kind in FIELDS.items()]
    connection.execute(f"INSERT INTO records VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
    found = bool(list(connection.execute(f"SELECT 1 FROM records WHERE {condition}", bound)))  # noqa: S608
    assert found is answer, (rule.text, condition)
    return answer
