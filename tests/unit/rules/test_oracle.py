"""SQL, the predicate and the reference say the same about random rules, records and principals (contract section 7).

2,000 cases in a normal run; RULE_ORACLE_CASES=100000 for a long one (about 2 minutes on one core). A case
is one rule judged on one record for one principal.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from typing import Any, Protocol

import apsw
import asyncpg
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snackbase.model import FieldType
from snackbase.rules import (
    IN_TIME,
    Auth,
    Kind,
    Rule,
    bound,
    check,
    conjunction,
    conjuncts,
    constant,
    parse,
    predicate,
    tie,
    to_sql,
)
from snackbase.storage.postgres.schema import POSTGRES, TEXT
from tests.unit.rules import reference
from tests.unit.rules.reference import DATA, FIELDS, Tree, auths, data, meaning, records, stored, text_of, trees

CASES = int(os.environ.get("RULE_ORACLE_CASES", "2000"))
RECORDS = 5
AUTHS = 2
_FIELD_TYPES = {kind: FieldType(kind.value) for kind in Kind}
_COLUMN_TYPES = {Kind.NUMBER: "REAL", Kind.BOOLEAN: "INTEGER"}

Row = dict[str, Any]


class Table(Protocol):
    """Records as a store keeps them, in a table called like one of its own columns."""

    def fill(self, rows: list[Row]) -> None: ...
    def select(self, rule: Rule, auth: Auth, sent: Row) -> set[int]: ...


class SqliteTable:
    """Records as the store keeps them in SQLite."""

    def __init__(self) -> None:
        self._connection = apsw.Connection(":memory:")
        self._connection.create_scalar_function(IN_TIME, lambda *_: 1, 0)
        columns = ", ".join(f'"{name}" {_COLUMN_TYPES.get(kind, "TEXT")}' for name, kind in FIELDS.items())
        self._connection.execute(f'CREATE TABLE "value" ("row" INTEGER, {columns})')

    def fill(self, rows: list[Row]) -> None:
        self._connection.execute('DELETE FROM "value"')
        marks = ", ".join("?" * (len(FIELDS) + 1))
        for number, row in enumerate(rows):
            held = [stored(row[name], kind) for name, kind in FIELDS.items()]
            self._connection.execute(f'INSERT INTO "value" VALUES ({marks})', (number, *held))  # noqa: S608

    def select(self, rule: Rule, auth: Auth, sent: Row) -> set[int]:
        bound: list[Any] = []

        def param(value: object) -> str:
            bound.append(value)
            return "?"

        where = to_sql(rule, auth, dialect="sqlite", column=lambda name: f'"{name}"', param=param, data=sent)
        return {int(row[0]) for row in self._connection.execute(f'SELECT "row" FROM "value" WHERE {where}', bound)}  # noqa: S608


class PostgresTable:
    """Records as the store keeps them in PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: Any = self._wait(asyncpg.connect(url))
        columns = ", ".join(f'"{name}" {POSTGRES.types.get(_FIELD_TYPES[kind], TEXT)}' for name, kind in FIELDS.items())
        self._wait(self._connection.execute(f'CREATE TABLE "value" ("row" INTEGER, {columns})'))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._wait(self._connection.close())
        self._loop.close()

    def fill(self, rows: list[Row]) -> None:
        self._wait(self._connection.execute('DELETE FROM "value"'))
        marks = ", ".join(f"${number}" for number in range(1, len(FIELDS) + 2))
        held = [
            (number, *(self._held(row[name], kind) for name, kind in FIELDS.items())) for number, row in enumerate(rows)
        ]
        self._wait(self._connection.executemany(f'INSERT INTO "value" VALUES ({marks})', held))  # noqa: S608

    def _held(self, value: Any, kind: Kind) -> Any:
        return msgspec.json.encode(value).decode() if kind is Kind.JSON and value is not None else value

    def select(self, rule: Rule, auth: Auth, sent: Row) -> set[int]:
        bound: list[Any] = []

        def param(value: object) -> str:
            bound.append(value)
            return f"${len(bound)}"

        where = to_sql(rule, auth, dialect="postgres", column=lambda name: f'"{name}"', param=param, data=sent)
        found = self._wait(self._connection.fetch(f'SELECT "row" FROM "value" WHERE {where}', *bound))  # noqa: S608
        return {row["row"] for row in found}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    if request.param == "sqlite":
        yield SqliteTable()
        return
    cluster = request.getfixturevalue("postgres")
    name = cluster.create()
    made = PostgresTable(cluster.url(name))
    yield made
    made.close()
    cluster.drop(name)


def _rule(tree: Tree, spelling: st.DataObject) -> Rule:
    def choose(options: int) -> int:
        return spelling.draw(st.integers(0, options - 1))

    return check(parse(text_of(tree, choose)), FIELDS, data=DATA)


@settings(max_examples=CASES // (RECORDS * AUTHS))
@given(
    tree=trees,
    rows=st.lists(records, min_size=RECORDS, max_size=RECORDS),
    who=st.lists(auths, min_size=AUTHS, max_size=AUTHS),
    sent=data,
    spelling=st.data(),
)
def test_sql_predicate_and_reference_agree_on_every_rule_record_and_principal(
    table: Table, tree: Tree, rows: list[Row], who: list[Auth], sent: Row, spelling: st.DataObject
) -> None:
    rule = _rule(tree, spelling)
    table.fill(rows)
    for auth in who:
        expected = {number for number, row in enumerate(rows) if meaning(tree, row, auth, sent) is True}
        judge = predicate(rule, auth, data=sent)
        assert {number for number, row in enumerate(rows) if judge(row)} == expected, rule.text
        assert table.select(rule, auth, sent) == expected, rule.text
        fixed = constant(rule, auth, sent)
        assert fixed is None or expected == (set(range(RECORDS)) if fixed else set())


@settings(max_examples=max(100, CASES // 100))
@given(tree=trees, row=records, auth=auths, sent=data, spelling=st.data())
def test_a_rule_is_its_canonical_text_its_conjuncts_and_its_tie(
    tree: Tree, row: Row, auth: Auth, sent: Row, spelling: st.DataObject
) -> None:
    rule = _rule(tree, spelling)
    truth = predicate(rule, auth, data=sent)(row)
    parts = conjuncts(rule)
    again = check(parse(rule.text), FIELDS, data=DATA)
    assert again == rule and hash(again) == hash(rule) and again.text == rule.text
    assert (again.fields, again.claims, again.uses_data) == (rule.fields, rule.claims, rule.uses_data)
    assert conjunction(parts) == rule
    assert all(predicate(part, auth, data=sent)(row) for part in parts) is truth
    own = bound(rule, auth, sent)
    assert not own.claims and not own.uses_data
    assert predicate(own, auth)(row) is truth
    found = tie(own)
    if truth and found is not None:
        held = row[found.field]
        assert any(value in found.values for value in (held if found.elements else [held]))


@settings(max_examples=max(200, CASES // 20))
@given(text=reference.texts, pattern=reference.texts)
def test_patterns_from_fields_literals_claims_and_requests_mean_the_same(table: Table, text: str, pattern: str) -> None:
    row: Row = dict.fromkeys(FIELDS) | {"value": text, "atom": pattern, "type": False}
    table.fill([row])
    auth = Auth("u1", pattern, None, None)
    literal = "'" + pattern.replace("\\", "\\\\").replace("'", "''") + "'"
    expected = meaning(("cmp", "~", ("field", "value"), ("field", "atom")), row, auth, {})
    for right in ("atom", literal, "@request.auth.email", "@request.data.value"):
        for op, wanted in (("~", expected), ("!~", not expected)):
            rule = check(parse(f"value {op} {right}"), FIELDS, data=DATA)
            sent = {"value": pattern}
            assert predicate(rule, auth, data=sent)(row) is wanted, (op, right)
            assert table.select(rule, auth, sent) == ({0} if wanted else set()), (op, right)
