"""One record's write, made ready: its values, the rule that judges it, and what before-hooks make of it (step 3).

Owns the order within one write: read the body, ask the rule, let hooks refuse or change it, read the result again.
Promises that only somebody who may make the write learns what is wrong with its body, or makes a hook run. It commits
nothing: the result is a `Write` for the store, which judges updates and deletes again, and finally.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from snackbase.errors import FieldError, SnackBaseError
from snackbase.hooks import Hooks
from snackbase.model import Op, Principal, Record, rfc3339
from snackbase.rules import Predicate
from snackbase.services import values
from snackbase.services.access import Access
from snackbase.storage.base import Store, Write


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a record hook is told about the request.

    Attributes:
        operation: create | update | delete: what was asked for (a cascade keeps that of its cause).
        batch: how many records were asked for at once; 1 when it was no batch.
    """

    principal: Principal
    operation: str
    batch: int = 1

    @property
    def user_id(self) -> str | None:
        return self.principal.actor_id

    @property
    def account_id(self) -> str:
        return self.principal.account_id


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One record's part of a batch of updates: the id as it was given, and the fields to change."""

    id: str
    data: dict[str, Any]


class Preparation:
    """
    Args:
        new_id: an id for a record whose client brought none. now_us: the wall clock, for the create rule.
    """

    def __init__(self, store: Store, hooks: Hooks, *, new_id: Callable[[], str], now_us: Callable[[], int]) -> None:
        self._store = store
        self._hooks = hooks
        self._new_id = new_id
        self._now_us = now_us

    async def creation(self, access: Access, body: Mapping[str, Any], context: Context) -> Write:
        collection, account_id = access.definition.collection, access.principal.account_id
        reading = values.for_create(collection, body, account_id=account_id)
        record_id = reading.record_id or self._new_id()
        judge = access.judge("create", reading.given)
        draft = self._draft(access, record_id, reading)
        if judge is not None and not judge(draft):
            raise access.refused("create")
        if self._hooks.has("on_record_before_create", access.name):
            data = await self._before("create", access, reading, draft, context)
            reading = values.for_create(collection, data, account_id=account_id)
            record_id = reading.record_id or record_id
        return Write(op=Op.CREATE, collection=collection, record_id=record_id, values=reading.accept())

    def _draft(self, access: Access, record_id: str, reading: values.Reading) -> Record:
        """The record as it would be, for the create rule; what is not acceptable counts as null."""
        actor, now = access.principal.actor_id, rfc3339(self._now_us())
        return {
            "id": record_id,
            **{field.name: reading.values.get(field.name) for field in access.definition.collection.fields},
            "account_id": access.principal.account_id,
            "created_at": now,
            "created_by": actor,
            "updated_at": now,
            "updated_by": actor,
        }

    async def update(self, access: Access, edit: Edit, context: Context, *, replace: bool) -> Write:
        collection, record_id = access.definition.collection, known_id(access, edit.id)
        read = values.for_replace if replace else values.for_patch
        reading = read(collection, edit.data)
        if edit.data.get("id") is not None and values.canonical_id(edit.data["id"]) != record_id:
            message = "A record's id cannot be changed."
            reading.errors.append(FieldError(field="id", message=message, code="read_only"))
        allowed = access.judge("update", reading.given)
        hooked = self._hooks.has("on_record_before_update", access.name)
        if hooked or reading.errors:
            # Who may not change the record learns that, and neither what is wrong with the values nor what hooks do.
            before = await self._judged(access, "update", record_id, allowed)
            if hooked:
                reading = read(collection, await self._before("update", access, reading, before, context))
        return Write(
            op=Op.UPDATE,
            collection=collection,
            record_id=record_id,
            values=reading.accept(),
            allowed=allowed,
            visible=access.visible(),
        )

    async def deletion(self, access: Access, given_id: str, context: Context) -> Write:
        collection, record_id = access.definition.collection, known_id(access, given_id)
        allowed = access.judge("delete")
        if self._hooks.has("on_record_before_delete", access.name):
            before = await self._judged(access, "delete", record_id, allowed)
            await self._hooks.fire(
                "on_record_before_delete",
                collection=access.name,
                refusing=True,
                record=before,
                data={},
                context=context,
            )
        return Write(
            op=Op.DELETE, collection=collection, record_id=record_id, allowed=allowed, visible=access.visible()
        )

    async def _judged(self, access: Access, operation: str, record_id: str, allowed: Predicate | None) -> Record:
        """The record as it is now, if it may be changed: an early look; the store judges again."""
        record = await self._store.get(access.definition.collection, access.principal.account_id, record_id)
        if record is None:
            raise access.absent(record_id)
        if allowed is not None and not allowed(record):
            visible = access.visible()
            if visible is not None and not visible(record):
                raise access.absent(record_id)
            raise access.refused("update" if operation == "update" else "delete")
        return record

    async def _before(
        self, operation: str, access: Access, reading: values.Reading, record: Record, context: Context
    ) -> dict[str, Any]:
        """Let before-hooks change the values; gives the data to be read again.

        Hooks get values of the right types: only a required one may be missing, since filling it is what a hook may be
        for. If one fails over that, the client is told what is missing, and not that the server is broken.
        """
        if any(error.code != "required" for error in reading.errors):
            reading.accept()
        data = {error.field: None for error in reading.errors} | reading.values
        try:
            await self._hooks.fire(
                f"on_record_before_{operation}",
                collection=access.name,
                refusing=True,
                record=record,
                data=data,
                context=context,
            )
        except SnackBaseError as error:
            if error.code == "hook_failed":
                reading.accept()
            raise
        return data


def known_id(access: Access, record_id: str) -> str:
    """The canonical form; what is no UUID names no record."""
    known_id = values.canonical_id(record_id)
    if known_id is None:
        raise access.absent(repr(record_id[:64]))
    return known_id
