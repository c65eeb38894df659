"""What one principal may do with one collection: its rules bound to the principal, and refusals in the words of §6.

Owns the difference between 401, 403 and 404: a guest whom no record could satisfy is asked for a token; what is visible
but refused is 403; what is absent or invisible is 404 and looks the same, except to superadmins and in dev mode. It
must not read or write anything. Part of step 3 of the path.
"""

from collections.abc import Mapping
from typing import Any

from snackbase.catalog import Definition, Operation, auth_of, project
from snackbase.errors import Forbidden, NotFound, SnackBaseError, Unauthorized
from snackbase.model import Principal, Record
from snackbase.rules import Predicate, Rule, constant, predicate


class Access:
    """
    Args:
        explain: tell everybody what is otherwise told to superadmins only (`serve --dev`).
    """

    __slots__ = ("auth", "definition", "explain", "name", "principal")

    def __init__(self, definition: Definition, principal: Principal, *, explain: bool) -> None:
        self.definition = definition
        self.principal = principal
        self.explain = explain
        self.auth = auth_of(principal)
        self.name = definition.collection.name

    def rule(self, operation: Operation, data: Mapping[str, Any] | None = None) -> Rule | None:
        """The rule that must be true of the record; None = the principal bypasses rules.

        Raises:
            Forbidden: locked. Unauthorized: a guest, and only somebody with a token could pass.
        """
        if self.principal.superadmin:
            return None
        rule = self.definition.rule(operation)
        if self.principal.kind == "guest" and (rule is None or constant(rule, self.auth, data or {}) is False):
            raise Unauthorized(f"A token is required to {operation} records of {self.name}.", code="token_missing")
        if rule is None:
            raise Forbidden(f"The {operation} rule of {self.name} is locked: only superadmins may do this.")
        return rule

    def judge(self, operation: Operation, data: Mapping[str, Any] | None = None) -> Predicate | None:
        """`rule` as a predicate over a record. Raises as `rule`."""
        rule = self.rule(operation, data)
        if rule is None:
            return None
        return predicate(rule, self.auth, data or {}) if rule.uses_data else self.definition.judge(operation, self.auth)

    def visible(self) -> Predicate | None:
        """Whether a record may be read by itself; None = always. In dev mode always, so that refusals say why."""
        if self.principal.superadmin or self.explain:
            return None
        return self._viewing()

    def _viewing(self) -> Predicate:
        return self.definition.judge("view", self.auth) or _never

    def shown(self, record: Record) -> Record:
        """A written record as its writer may read it: who may not view it learns its id and no more."""
        if self.principal.superadmin:
            return record
        if not self._viewing()(record):
            return {"id": record["id"]}
        return project(record, self.definition.view_fields)

    def refused(self, operation: Operation) -> Forbidden:
        return Forbidden(f"The {operation} rule of {self.name} does not allow this.{self._because(operation)}")

    def absent(self, record_id: str) -> NotFound:
        """There is no such record, or nobody may know."""
        if self.principal.superadmin or self.explain:
            return NotFound(f"There is no record {record_id} in {self.name} in this account.")
        return NotFound("The record does not exist.")

    def hidden(self, record_id: str) -> NotFound:
        """The record is there and invisible."""
        if self.explain:
            return NotFound(f"The view rule of {self.name} hides the record {record_id}.{self._because('view')}")
        return self.absent(record_id)

    def tell_why(self, error: SnackBaseError, operation: Operation) -> None:
        """Complete the store's refusal; it judges the record, and knows neither the rule's text nor who asks."""
        if isinstance(error, Forbidden):
            error.message += self._because(operation)
            error.args = (error.message,)

    def _because(self, operation: Operation) -> str:
        """In dev mode the rule, and as whom it was asked: what a developer looks for first."""
        if not self.explain:
            return ""
        text, auth = getattr(self.definition.collection.rules, f"{operation}_rule"), self.auth
        asked = f"id={auth.id!r}, email={auth.email!r}, role={auth.role!r}, groups={list(auth.groups)!r}"
        return f" It says: {'locked' if text is None else text} (asked as {asked})"


def _never(record: Mapping[str, object]) -> bool:
    return False
