"""A collection's definition as a body gives it: read, checked against itself and the others, or refused part by part.

Owns every limit and rule about names, fields, indexes and rule texts; so what is stored always compiles, refers to what
exists, and has one spelling. Pure: a definition before and a body in, a definition after out. Must not store anything.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from snackbase.catalog import OPERATIONS, compile_rule, kinds_of, rule_text
from snackbase.errors import FieldError, ValidationFailed
from snackbase.model import (
    COLLECTION_NAME,
    FIELD_NAME,
    MEMBERS_RULE,
    SYSTEM_FIELDS,
    Collection,
    Field,
    FieldType,
    Index,
    OnDelete,
    Rules,
)
from snackbase.rules import RESERVED_WORDS, Kind, RuleError
from snackbase.services import values

MAX_FIELDS = 100
MAX_INDEXES = 20
MAX_INDEX_FIELDS = 5
MAX_OPTIONS = 200
MAX_OPTION_CHARACTERS = 200
MAX_ERRORS = 100

RESERVED_NAMES = frozenset({"names", "export", "import"})
"""Paths under /collections; a collection of such a name could not be asked for."""
RESERVED_FIELDS = frozenset(
    {*SYSTEM_FIELDS, *RESERVED_WORDS, "expand", "rowid", "oid", "ctid", "tableoid"} | {"xmin", "xmax", "cmin", "cmax"}
)
"""System fields, words of the rule language, the key of expanded references, and columns that databases keep."""

_RULE_KEYS = tuple(f"{operation}_rule" for operation in OPERATIONS)
RIGHTS_KEYS = (*_RULE_KEYS, "list_fields", "view_fields", "create_fields", "update_fields")
_KEYS = ("name", "schema", "fields", "indexes", *RIGHTS_KEYS)
_COMES_ALONG = frozenset(
    {"id", "table_name", "fields_count", "field_count", "records_count", "record_count", "has_public_access"}
    | {"created_at", "updated_at"}
)
"""What an answer holds besides: ignored, so that a definition can be read, edited and sent back."""
_FIELD_KEYS = ("name", "type", "required", "default", "unique", "options", "collection", "on_delete")
_UNSUPPORTED_FIELD_KEYS = frozenset({"pii", "mask_type", "encrypted", "expression", "return_type"})

FindName = Callable[[str], str | None]


class Revision:
    """Reads one body into a definition.

    Args:
        current: the definition before; None = a new one. body: what was sent.
        find_name: the exact name of the collection that a name or id means; None = there is none.
    """

    def __init__(self, current: Collection | None, body: Mapping[str, Any], *, find_name: FindName) -> None:
        self._current = current
        self._body = body
        self._find_name = find_name
        self._errors: list[FieldError] = []
        self._name = current.name if current else ""

    def apply(self, *, collection_id: str) -> Collection:
        """The definition after; table, times and versions are the store's to assign.

        Raises:
            ValidationFailed: one detail for each part that is not acceptable.
        """
        current, body = self._current, self._body
        for key in body:
            if key not in _KEYS and key not in _COMES_ALONG:
                hint = values.did_you_mean(key, _KEYS)
                self._fail(key[:64], f"A collection has no {key[:64]!r}.{hint}", "unknown_field")
        if "name" in body or current is None:
            self._name = self._read_name(body.get("name"))
        fields = self._read_fields()
        kinds = kinds_of(fields)
        after = Collection(
            id=collection_id,
            name=self._name,
            table=current.table if current else "",
            fields=fields,
            indexes=self._read_indexes(fields, kinds),
            rules=self._read_rules(kinds),
            list_fields=self._read_shown("list_fields", kinds),
            view_fields=self._read_shown("view_fields", kinds),
            schema_version=current.schema_version if current else 0,
            rules_version=current.rules_version if current else 0,
            version=current.version if current else 0,
            created_at=current.created_at if current else "",
            updated_at=current.updated_at if current else "",
        )
        for key in ("create_fields", "update_fields"):
            if body.get(key) not in (None, "*"):
                self._fail(key, f"{key} is not supported: write a rule over @request.data instead.", "unsupported")
        if self._errors:
            first = self._errors[0].message
            raise ValidationFailed(first if len(self._errors) == 1 else f"{first} (and more)", details=self._errors)
        return after

    def _fail(self, field: str, message: str, code: str) -> None:
        if len(self._errors) < MAX_ERRORS:
            self._errors.append(FieldError(field=field, message=message, code=code))

    def _read_name(self, name: object) -> str:
        if not isinstance(name, str) or not COLLECTION_NAME.match(name):
            message = "name must be 3 to 64 letters, digits and underscores, beginning with a letter."
            self._fail("name", message, "required" if name is None else "invalid_name")
            return ""
        if name.lower() in RESERVED_NAMES:
            self._fail("name", f"{name} is reserved; choose another name.", "reserved_name")
        return name

    def _read_fields(self) -> tuple[Field, ...]:
        key = "schema" if "schema" in self._body else "fields"
        given = self._body.get(key)
        if "schema" in self._body and self._body.get("fields", given) != given:
            self._fail("fields", "schema and fields are two names for one thing, but differ.", "invalid_schema")
        if key not in self._body and self._current is not None:
            return self._current.fields
        if given is None and self._current is None:
            return ()
        if not isinstance(given, list) or len(given) > MAX_FIELDS:
            self._fail(key, f"{key} must be a list of at most {MAX_FIELDS} fields.", "invalid_schema")
            return ()
        fields: dict[str, Field] = {}
        for number, one in enumerate(given):
            field = self._read_field(f"{key}[{number}]", one)
            if field is None:
                continue
            if field.name.lower() in fields:
                self._fail(f"{key}[{number}].name", f"There are two fields named {field.name}.", "duplicate_field")
            fields[field.name.lower()] = field
        return tuple(fields.values())

    def _read_field(self, at: str, given: object) -> Field | None:
        before = len(self._errors)
        if not isinstance(given, dict):
            self._fail(at, "A field must be an object such as {'name': 'title', 'type': 'text'}.", "invalid_schema")
            return None
        self._check_field_keys(at, given)
        name, kind = given.get("name"), given.get("type", "text")
        if not isinstance(name, str) or not FIELD_NAME.match(name):
            message = "A field's name is 1 to 63 letters, digits and underscores, beginning with a letter."
            self._fail(f"{at}.name", message, "required" if name is None else "invalid_name")
        elif name.lower() in RESERVED_FIELDS:
            self._fail(f"{at}.name", f"{name} is reserved; choose another name.", "reserved_name")
        if kind not in list(FieldType):
            message = f"The types are {', '.join(FieldType)}."
            self._fail(f"{at}.type", message, "invalid_type")
        for key in ("required", "unique"):
            if not isinstance(given.get(key), bool | None):
                self._fail(f"{at}.{key}", f"{key} must be true or false.", "invalid_schema")
        if len(self._errors) > before:
            return None
        field = Field(
            name=str(name),
            type=FieldType(kind),
            required=bool(given.get("required")),
            unique=bool(given.get("unique")),
            options=self._read_options(at, FieldType(kind), given.get("options")),
            **self._read_target(at, FieldType(kind), given),
        )
        return self._with_default(at, field, given.get("default"))

    def _check_field_keys(self, at: str, given: Mapping[str, Any]) -> None:
        for key in given:
            if key in _UNSUPPORTED_FIELD_KEYS:
                if given[key]:
                    self._fail(f"{at}.{key}", f"{key} is not supported by this server.", "unsupported")
            elif key not in _FIELD_KEYS:
                hint = values.did_you_mean(key, _FIELD_KEYS)
                self._fail(f"{at}.{key[:64]}", f"A field has no {key[:64]!r}.{hint}", "unknown_field")

    def _read_options(self, at: str, kind: FieldType, options: object) -> list[str] | None:
        if kind is not FieldType.SELECT:
            if options:
                self._fail(f"{at}.options", f"options are for select fields; {kind} has none.", "unsupported")
            return None
        if isinstance(options, dict) and set(options) == {"values"}:
            options = options["values"]
        usable = (
            isinstance(options, list)
            and 1 <= len(options) <= MAX_OPTIONS
            and all(
                isinstance(one, str)
                and 1 <= len(one) <= MAX_OPTION_CHARACTERS
                and values.unusable_character(one) is None
                for one in options
            )
        )
        if not usable or not isinstance(options, list) or len(set(options)) != len(options):
            message = (
                f"options must list 1 to {MAX_OPTIONS} different texts of at most {MAX_OPTION_CHARACTERS} characters."
            )
            self._fail(f"{at}.options", message, "invalid_options")
            return None
        return options

    def _read_target(self, at: str, kind: FieldType, given: Mapping[str, Any]) -> dict[str, Any]:
        wanted, action = given.get("collection"), given.get("on_delete")
        if kind is not FieldType.REFERENCE:
            for key in ("collection", "on_delete"):
                if given.get(key) is not None:
                    self._fail(f"{at}.{key}", f"{key} is for reference fields.", "invalid_schema")
            return {}
        target = None
        if isinstance(wanted, str):
            # A collection may refer to itself, also while it is being made or renamed.
            own = wanted.lower() == self._name.lower()
            target = self._name if own else self._find_name(wanted)
        if target is None:
            message = f"There is no collection {str(wanted)[:64]!r} to refer to."
            self._fail(f"{at}.collection", message, "required" if wanted is None else "collection_not_found")
        if action is not None and action not in list(OnDelete):
            self._fail(f"{at}.on_delete", f"on_delete is one of {', '.join(OnDelete)}.", "invalid_on_delete")
            return {}
        if action == OnDelete.SET_NULL and given.get("required"):
            message = "A required reference cannot become null: use cascade or restrict."
            self._fail(f"{at}.on_delete", message, "invalid_on_delete")
        return {"collection": target, "on_delete": OnDelete(action or OnDelete.RESTRICT)}

    def _with_default(self, at: str, field: Field, default: object) -> Field:
        if field.unique and field.type is FieldType.JSON:
            self._fail(f"{at}.unique", "JSON values cannot be unique.", "invalid_schema")
        if default is None:
            return field
        if field.unique or field.type is FieldType.REFERENCE:
            message = f"A {'unique' if field.unique else 'reference'} field cannot have a default."
            self._fail(f"{at}.default", message, "invalid_default")
            return field
        try:
            return msgspec.structs.replace(field, default=values.check(field, default))
        except values.Invalid as error:
            self._fail(f"{at}.default", error.message, "invalid_default")
            return field

    def _read_indexes(self, fields: tuple[Field, ...], kinds: Mapping[str, Kind]) -> tuple[Index, ...]:
        given = self._body.get("indexes")
        if given is None:
            given = (
                [{"fields": list(i.fields), "unique": i.unique} for i in self._current.indexes] if self._current else []
            )
        if not isinstance(given, list) or len(given) > MAX_INDEXES:
            self._fail("indexes", f"indexes must be a list of at most {MAX_INDEXES}.", "invalid_index")
            return ()
        found: dict[Index, None] = {}
        for number, one in enumerate(given):
            index = self._read_index(f"indexes[{number}]", one, kinds)
            if index in found:
                self._fail(f"indexes[{number}]", "This index is there twice.", "invalid_index")
            if index is not None:
                found[index] = None
        return tuple(found)

    def _read_index(self, at: str, given: object, kinds: Mapping[str, Kind]) -> Index | None:
        names = given.get("fields") if isinstance(given, dict) and set(given) <= {"fields", "unique"} else None
        unique = given.get("unique") if isinstance(given, dict) else None
        well_formed = (
            isinstance(names, list)
            and 1 <= len(names) <= MAX_INDEX_FIELDS
            and all(isinstance(name, str) for name in names)
            and isinstance(unique, bool | None)
        )
        if not well_formed or not isinstance(names, list) or len(set(names)) != len(names):
            message = f"An index is {{'fields': […], 'unique': false}} over 1 to {MAX_INDEX_FIELDS} different fields."
            self._fail(at, message, "invalid_index")
            return None
        for name in names:
            if kinds.get(name) in (None, Kind.JSON):
                reason = "holds JSON" if name in kinds else "is not a field"
                self._fail(f"{at}.fields", f"The index names {name[:64]}, which {reason}.", "invalid_index")
                return None
        return Index(fields=tuple(names), unique=bool(unique))

    def _read_rules(self, kinds: Mapping[str, Kind]) -> Rules:
        texts: dict[str, str | None] = {}
        for operation, key in zip(OPERATIONS, _RULE_KEYS, strict=True):
            kept = rule_text(self._current.rules, operation) if self._current else MEMBERS_RULE
            text = self._body.get(key, kept)
            if not isinstance(text, str | None):
                self._fail(key, f'{key} must be a rule, "" (public) or null (locked).', "invalid_rule")
                text = None
            try:
                compile_rule(text, operation, kinds)
            except RuleError as error:
                self._fail(key, f"{key}: {error}", error.code)
            texts[key] = text
        return Rules(**texts)

    def _read_shown(self, key: str, kinds: Mapping[str, Kind]) -> tuple[str, ...] | None:
        kept = getattr(self._current, key) if self._current else None
        given = self._body.get(key, kept)
        if isinstance(given, str):
            given = None if given.strip() == "*" else [name.strip() for name in given.split(",")]
        if given is None:
            return None
        if not isinstance(given, list | tuple) or not given or not all(isinstance(name, str) for name in given):
            self._fail(key, f'{key} must name fields, or be "*" for all of them.', "invalid_fields")
            return None
        for name in given:
            if name not in kinds:
                hint = values.did_you_mean(name, kinds)
                self._fail(key, f"{key} names {name[:64]!r}, which is not a field.{hint}", "unknown_field")
        return tuple(dict.fromkeys(given))
