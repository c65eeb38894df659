"""SQLite connections: what their settings have to achieve."""

from pathlib import Path

import apsw

from snackbase.storage.connection import connect, make_file


def test_a_join_is_compiled_once_for_all_the_values_it_is_run_with(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    make_file(path)
    connection = connect(path)
    connection.execute("PRAGMA query_only=0; CREATE TABLE a(id TEXT PRIMARY KEY, other TEXT); CREATE TABLE b(id TEXT)")
    compiled = 0

    def authorizer(*_: object) -> int:
        """SQLite asks it whenever it compiles a statement, and only then."""
        nonlocal compiled
        compiled += 1
        return apsw.SQLITE_OK

    sql = "SELECT b.id FROM a LEFT JOIN b ON b.id = a.other AND b.id <> ? WHERE a.id = ?"
    connection.authorizer = authorizer
    connection.execute(sql, ("x", "1")).fetchall()
    at_first, compiled = compiled, 0
    connection.execute(sql, ("x", "1")).fetchall()
    connection.execute(sql, ("y", "2")).fetchall()
    connection.close()

    assert at_first > 0
    assert compiled == 0
