"""The shape of the database in PostgreSQL's words: the same migrations, translated; and what only it has.

The change log is cut into partitions by time, so that what retention leaves empty is given back whole. Heads are
updated with every group, so their table keeps room for that on each page. The functions that our statements name in
SQLite's words exist here under the same names, over text.
"""

import re
from collections.abc import Sequence

from snackbase.model import FieldType
from snackbase.storage.schema import Dialect

TEXT = 'TEXT COLLATE "C"'

CHANGES = (
    f"""CREATE TABLE _changes(
        account BIGINT NOT NULL, seq BIGINT NOT NULL, ts_us BIGINT NOT NULL, op {TEXT} NOT NULL,
        collection_id {TEXT} NOT NULL, schema_version BIGINT NOT NULL, record_id {TEXT} NOT NULL, data TEXT,
        prev TEXT, actor {TEXT}, tx_id {TEXT} NOT NULL, tx_index INTEGER NOT NULL, tx_size INTEGER NOT NULL)
        PARTITION BY RANGE (ts_us)""",
    "CREATE INDEX _changes_place ON _changes(account, seq)",
    # What no partition was made for in time: a clock that is wrong, a node that was away.
    "CREATE TABLE _changes_rest PARTITION OF _changes DEFAULT",
)
FUNCTIONS = (
    """CREATE FUNCTION json_each(given text) RETURNS TABLE(value text) LANGUAGE sql IMMUTABLE STRICT AS
        $$SELECT json_array_elements_text(given::json)$$""",
    """CREATE FUNCTION json_array_length(given text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS
        $$SELECT json_array_length(given::json)::bigint$$""",
    """CREATE FUNCTION json_insert(given text, place text, added text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS
        $$SELECT CASE given WHEN '[]' THEN '[' ELSE left(given, -1) || ',' END || to_json(added)::text || ']'$$""",
    """CREATE FUNCTION sb_more(before text, added text) RETURNS text LANGUAGE sql IMMUTABLE AS
        $$SELECT coalesce(before || ',', '') || to_json(added)::text$$""",
    """CREATE FUNCTION sb_array(inside text) RETURNS text LANGUAGE sql IMMUTABLE AS
        $$SELECT '[' || coalesce(inside, '') || ']'$$""",
    "CREATE AGGREGATE json_group_array(text) (SFUNC = sb_more, STYPE = text, FINALFUNC = sb_array)",
    """CREATE FUNCTION instr(given text, wanted text) RETURNS integer LANGUAGE sql IMMUTABLE STRICT AS
        $$SELECT strpos(given, wanted)$$""",
)
HEADS = (
    """ALTER TABLE _heads SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0)""",
)

_REPLACED: tuple[tuple[str, Sequence[str]], ...] = (
    ("CREATE TABLE _changes(", CHANGES),
    # A database of this kind begins with the newest shape: there are no users with groups yet.
    ("INSERT INTO _groups(id, account_id, name, created_at, updated_at)\n        SELECT lower(hex", ()),
)
_WORDS = (
    (re.compile(r"\) STRICT$"), ")"),
    (re.compile(r"\bINTEGER\b"), "BIGINT"),
    (re.compile(r"\bTEXT NOT NULL COLLATE NOCASE\b"), "TEXT NOT NULL"),
    (re.compile(r"\bBLOB\b"), "BYTEA"),
    (re.compile(r"\bTEXT\b"), TEXT),
)


def ddl(sql: str) -> Sequence[str]:
    """A statement of the migrations in PostgreSQL's words."""
    for beginning, instead in _REPLACED:
        if sql.startswith(beginning):
            return instead
    if not sql.startswith(("CREATE", "ALTER")):
        return (sql,)
    text = sql
    for pattern, word in _WORDS:
        text = pattern.sub(word, text)
    if sql.startswith("CREATE TABLE _heads("):
        return (text, *HEADS, *FUNCTIONS)
    if sql.startswith("CREATE TABLE _collections("):
        return (text, "CREATE UNIQUE INDEX _collections_name ON _collections(lower(name))")
    return (text,)


POSTGRES = Dialect(
    name="postgres",
    text=TEXT,
    types={FieldType.NUMBER: "DOUBLE PRECISION", FieldType.BOOLEAN: "BOOLEAN"},
    longest_name=63,
    table_names="""SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
        AND c.relkind IN ('r', 'p')""",
    alone=False,
    ddl=ddl,
)
