"""Every collection as this process knows it now, with its rules compiled: what services and the hub ask for rights.

Owns the translation of a definition into what rules see (kinds of fields), and the look-ups by name and id. Replaced as
a whole, on the event loop, when the store says that a schema or a rule changed. It promises that what stands in it
compiles: a change that would break a rule is refused before it is stored. It must not read the database or decide about
a record; it hands out rules, others apply them.
"""

from collections.abc import Collection as Names
from collections.abc import Iterable, Mapping
from typing import Literal

from snackbase.model import Collection, Field, FieldType, Principal, Record, Rules
from snackbase.rules import Auth, Kind, Predicate, Rule, check, parse, predicate

Purpose = Literal["list", "view"]
Operation = Literal["list", "view", "create", "update", "delete"]
PERSONAL_CLAIMS = frozenset({"role", "groups", "email"})
"""Claims that a change of a user's row can change; the id and the account never do."""
OPERATIONS: tuple[Operation, ...] = ("list", "view", "create", "update", "delete")
RULES_WITH_DATA = frozenset({"create", "update"})
"""The operations whose rule may ask for `@request.data` (contract §7)."""
MOST_KEPT_FILTERS = 128
MOST_KEPT_PREDICATES = 1024

_KINDS = {
    FieldType.NUMBER: Kind.NUMBER,
    FieldType.BOOLEAN: Kind.BOOLEAN,
    FieldType.DATETIME: Kind.DATETIME,
    FieldType.DATE: Kind.DATE,
    FieldType.JSON: Kind.JSON,
}


def kinds_of(fields: Iterable[Field]) -> dict[str, Kind]:
    """What rules may name and how it compares, in the order in which a record shows its fields."""
    return {
        "id": Kind.TEXT,
        **{field.name: _KINDS.get(field.type, Kind.TEXT) for field in fields},
        "account_id": Kind.TEXT,
        "created_at": Kind.DATETIME,
        "created_by": Kind.TEXT,
        "updated_at": Kind.DATETIME,
        "updated_by": Kind.TEXT,
    }


def compile_rule(text: str | None, operation: str, kinds: Mapping[str, Kind]) -> Rule | None:
    """The rule of one operation; None stays None (locked), "" is always true.

    Raises:
        RuleError: the text is no rule over these fields.
    """
    if text is None:
        return None
    return check(parse(text), kinds, data=kinds if operation in RULES_WITH_DATA else None)


def rule_text(rules: Rules, operation: str) -> str | None:
    """The text of one of the five rules."""
    text: str | None = getattr(rules, f"{operation}_rule")
    return text


def auth_of(principal: Principal) -> Auth:
    """The principal as rules see it."""
    return Auth(
        id=principal.actor_id,
        email=principal.email,
        role=principal.role,
        account_id=principal.account_id,
        groups=principal.groups,
    )


class Definition:
    """One collection, ready for use.

    Attributes:
        kinds: every field with its kind, system fields included, in the order a record shows them.
        names: the fields of a record, in its order.
        list_fields, view_fields: what members may read, `id` included; None = every field.
    """

    __slots__ = ("_filters", "_judges", "_rules", "collection", "kinds", "list_fields", "names", "view_fields")

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self.kinds = kinds_of(collection.fields)
        self.names = tuple(self.kinds)
        self.list_fields = _shown(collection.list_fields)
        self.view_fields = _shown(collection.view_fields)
        self._rules = {
            operation: compile_rule(rule_text(collection.rules, operation), operation, self.kinds)
            for operation in OPERATIONS
        }
        self._filters: dict[tuple[str, frozenset[str] | None], Rule] = {}
        self._judges: dict[tuple[str, Auth], Predicate] = {}

    def rule(self, operation: Operation) -> Rule | None:
        """The compiled rule; None = locked, superadmins only."""
        return self._rules[operation]

    def judge(self, operation: Operation, auth: Auth) -> Predicate | None:
        """The rule as a predicate for one principal, kept for their next request; None = locked.

        Raises:
            ValueError: the rule asks for `@request.data`, which is another one with every request.
        """
        rule = self._rules[operation]
        if rule is None:
            return None
        key = (operation, auth)
        judge = self._judges.get(key)
        if judge is None:
            if len(self._judges) >= MOST_KEPT_PREDICATES:
                self._judges.clear()
            judge = self._judges[key] = predicate(rule, auth)
        return judge

    def filter(self, text: str, readable: Names[str] | None) -> Rule:
        """A filter somebody asks for, over the fields they may read (None = all).

        Raises:
            RuleError: no filter over these fields; a hidden field in the words of an unknown one.
        """
        key = (text, None if readable is None else frozenset(readable))
        rule = self._filters.get(key)
        if rule is None:
            rule = check(parse(text), self.kinds, readable=readable)
            if len(self._filters) >= MOST_KEPT_FILTERS:
                self._filters.clear()
            self._filters[key] = rule
        return rule

    def readable(self, principal: Principal, purpose: Purpose) -> frozenset[str] | None:
        """The fields the principal may read in a list or a single record; None = every field."""
        if principal.superadmin:
            return None
        return self.list_fields if purpose == "list" else self.view_fields


def _shown(names: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if names is None else frozenset({"id", *names})


def project(record: Record, fields: Names[str] | None) -> Record:
    """The record cut to `fields`, in its own order; None = as it is."""
    if fields is None:
        return record
    return {name: value for name, value in record.items() if name in fields}


class Catalog:
    """The current definitions. Used from the event loop only.

    Attributes:
        version: the global version of rules and schemas these definitions belong to.
    """

    def __init__(self, version: int = 0, collections: Iterable[Collection] = ()) -> None:
        self.version = version
        self._by_id: dict[str, Definition] = {}
        self._by_name: dict[str, Definition] = {}
        self._all: tuple[Definition, ...] = ()
        self.replace(version, tuple(collections))

    def replace(self, version: int, collections: tuple[Collection, ...]) -> None:
        """Take over what the store committed; definitions that did not change keep their compiled form."""
        definitions = []
        for collection in collections:
            known = self._by_id.get(collection.id)
            definitions.append(known if known and known.collection == collection else Definition(collection))
        self.version = version
        self._all = tuple(definitions)
        self._by_id = {definition.collection.id: definition for definition in definitions}
        self._by_name = {definition.collection.name: definition for definition in definitions}

    def by_name(self, name: str) -> Definition | None:
        """Exactly this spelling (names are unique without regard to case, so a client's `type` is always the same)."""
        return self._by_name.get(name)

    def by_id(self, collection_id: str) -> Definition | None:
        return self._by_id.get(collection_id)

    def all(self) -> tuple[Definition, ...]:
        return self._all
