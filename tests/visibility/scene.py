"""What the tests know of the world: records, rules and people as they are, and who may therefore see what.

It asks the server for nothing but a superadmin's list after each step. Rules and filters are trees of the second
reading of contract section 7 (`tests/unit/rules/reference.py`), which shares no code with the server.

Every state of a record carries two texts that occur nowhere else, one in `note` and one in `secret`; a frame that holds
such a text was made of that field of that state.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from snackbase.rules import Auth, Kind
from tests.unit.rules import reference
from tests.unit.rules.reference import FIELDS, Tree, meaning

Record = dict[str, Any]
SYSTEM = ("id", "created_by", "created_at")
MARKED = ("note", "secret")
SCHEMA: list[dict[str, Any]] = [
    *(
        {"name": name, "type": "text" if kind is Kind.TEXT else str(kind)}
        for name, kind in FIELDS.items()
        if name not in SYSTEM
    ),
    *({"name": name, "type": "text"} for name in MARKED),
]
SHOWN = tuple(one["name"] for one in SCHEMA)
MARK = re.compile(rb"mark(\d+)([ns])end")
GROUPS = ("g1", "g2", "a")


def names_of(tree: Any) -> set[str]:
    """The fields that a tree reads."""
    if not isinstance(tree, tuple):
        return set()
    if len(tree) == 2 and tree[0] == "field":
        return {tree[1]}
    found = {name for part in tree for name in names_of(part)}
    return found | ({"created_by"} if tree[:2] == ("macro", "owns_record") else set())


def without_data(tree: Any) -> Any:
    """The tree with fields of the record in place of fields of the request, which lists have not."""
    if not isinstance(tree, tuple):
        return tree
    if tree and tree[0] == "data":
        return ("field", tree[1])
    return tuple(without_data(part) for part in tree)


_OWN: list[Tree] = [
    ("cmp", "=", ("field", "created_by"), ("claim", "id")),
    ("cmp", "=", ("field", "value"), ("claim", "id")),
    ("array", ("claim", "id"), ("field", "members"), False),
    ("array", ("claim", "id"), ("field", "members"), True),
    ("groups", ("field", "atom"), False),
    ("groups", ("field", "atom"), True),
    ("macro", "owns_record", ""),
    ("macro", "has_role", "admin"),
    ("macro", "has_group", "g1"),
    ("bare", ("field", "done")),
    ("cmp", "<", ("field", "views"), ("number", 2)),
    ("cmp", "=", ("field", "views"), ("number", 1)),
]
_own = st.sampled_from(_OWN)
_random = reference.trees.map(without_data)
_joins = st.sampled_from(["and", "or"])
trees: st.SearchStrategy[Tree] = st.one_of(
    _own,
    _own,
    st.tuples(_joins, st.tuples(_own, _own)),
    st.tuples(_joins, st.tuples(_own, _random)),
    st.tuples(st.just("not"), _own),
    _random,
)

_facts = {name: reference.values[kind] for name, kind in FIELDS.items() if name not in SYSTEM}
facts: st.SearchStrategy[Record] = st.fixed_dictionaries(
    {}, optional={name: st.one_of(st.none(), values) for name, values in _facts.items()}
)
"""Some fields; who is meant by `value` and `members`, and the room in `atom`, is chosen by the step."""


@dataclass(eq=False)
class Person:
    """Somebody who may connect, as the tests know them.

    Attributes:
        token: what proves it; None = no way in.
        allowed: marks that this person was allowed to see at some moment.
    """

    name: str
    account: str
    id: str
    token: str | None
    email: str | None
    role: str
    groups: tuple[str, ...]
    key: bool = False
    alive: bool = True
    allowed: set[bytes] = field(default_factory=set)

    def auth(self, account_id: str) -> Auth:
        return Auth(self.id, self.email, self.role, account_id, self.groups)


@dataclass
class Rights:
    """What a collection's list rule and `list_fields` say. `tree`: None = locked, () = everybody."""

    tree: Tree | None
    fields: tuple[str, ...] | None = None

    def readable(self, name: str) -> bool:
        return self.fields is None or name in self.fields or name == "id"

    def shows(self, record: Record, auth: Auth) -> bool:
        return self.tree is not None and holds(self.tree, record, auth)

    def cut(self, record: Record, fields: Iterable[str] | None) -> Record:
        """As a list shows it."""
        wanted = None if fields is None else {"id", *fields}
        return {
            name: value for name, value in record.items() if self.readable(name) and (wanted is None or name in wanted)
        }


def holds(tree: Tree, record: Record, auth: Auth) -> bool:
    return not tree or meaning(tree, record, auth, {}) is True


@dataclass
class Scene:
    """One example's world. Records by account, collection and id."""

    people: list[Person] = field(default_factory=list)
    rights: dict[str, Rights] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    records: dict[tuple[str, str], dict[str, Record]] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)

    def lives(self, person: Person) -> bool:
        return person.alive and person.account not in self.closed

    def allow(self) -> None:
        """Note what everybody may see as things stand; also who is shut out: they may be told when they return."""
        for person in self.people:
            self._allow(person)

    def _allow(self, person: Person) -> None:
        auth = person.auth(self.accounts[person.account])
        for collection, rights in self.rights.items():
            shown = [name for name in MARKED if rights.readable(name)]
            for record in self.records.get((person.account, collection), {}).values():
                if rights.shows(record, auth):
                    person.allowed.update(str(record[name]).encode() for name in shown if record.get(name))

    def seen(self, person: Person, collection: str, wanted: Tree, fields: tuple[str, ...] | None) -> dict[str, Record]:
        """The list of one person, with a filter."""
        rights, auth = self.rights[collection], person.auth(self.accounts[person.account])
        return {
            record_id: rights.cut(record, fields)
            for record_id, record in self.records.get((person.account, collection), {}).items()
            if rights.shows(record, auth) and holds(wanted, record, auth)
        }

    def may_ask(self, collection: str, wanted: Tree, fields: tuple[str, ...] | None) -> bool:
        """Whether a list with this filter and these fields is served at all."""
        rights = self.rights[collection]
        return rights.tree is not None and all(map(rights.readable, {*names_of(wanted), *(fields or ())}))


def marks_in(raw: bytes | bytearray) -> set[bytes]:
    return {match.group() for match in MARK.finditer(raw)}


def described(records: Mapping[str, Record]) -> str:
    return ", ".join(f"{one[-6:]}: {record}" for one, record in sorted(records.items())) or "nothing"
