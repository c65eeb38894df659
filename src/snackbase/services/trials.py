"""Trying a rule on a made-up case: what it would say, without any record or user (`POST /rules/test`).

Pure. The answer is that of the very code that judges records.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from snackbase.catalog import kinds_of
from snackbase.errors import FieldError, ValidationFailed
from snackbase.rules import Auth, Kind, RuleError, check, parse, predicate


class TrialAuth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The user of a case; what is left out is null."""

    id: str | None = None
    email: str | None = None
    role: str | None = None
    account_id: str | None = None
    groups: tuple[str, ...] = ()


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case: who asks, the record that is judged, and what is written (`@request.data`)."""

    auth: TrialAuth = TrialAuth()
    record: dict[str, Any] = {}
    data: dict[str, Any] = {}


def tried(rule: str, trial: Trial, kinds: Mapping[str, Kind] | None) -> bool:
    """Whether the rule is true of the case.

    Args:
        kinds: the fields of a collection; None = those of the case, each of the kind of its value.

    Raises:
        ValidationFailed: the text is no rule over these fields, with the rule language's code.
    """
    known = kinds or _kinds(trial.record)
    given = kinds or {**known, **_kinds(trial.data)}
    try:
        return predicate(check(parse(rule), known, data=given), auth_of_case(trial.auth), trial.data)(trial.record)
    except RuleError as error:
        detail = FieldError(field="rule", message=str(error), code=error.code)
        raise ValidationFailed(str(error), details=[detail]) from None


def auth_of_case(user: TrialAuth) -> Auth:
    """A made-up user as rules see one."""
    return Auth(**{name: getattr(user, name) for name in TrialAuth.__struct_fields__})


def _kinds(values: Mapping[str, Any]) -> dict[str, Kind]:
    return {**kinds_of(()), **{name: _kind(value) for name, value in values.items()}}


def _kind(value: Any) -> Kind:
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int | float):
        return Kind.NUMBER
    return Kind.JSON if isinstance(value, dict | list) else Kind.TEXT
