"""Founding an account: its slug made unique, its code counted up, and what belongs to it in the same transaction."""

from collections.abc import Iterator, Sequence
from secrets import token_hex

from snackbase.errors import Conflict, FieldError
from snackbase.model import Account
from snackbase.services.identity import slug_from
from snackbase.storage import system
from snackbase.storage.base import Statement, Store, Transaction


class SlugTaken(Conflict):
    """409 slug_taken: another account has this slug."""

    code = "slug_taken"


async def found_account(
    store: Store,
    *,
    account_id: str,
    name: str,
    slug: str | None,
    at: str,
    field: str = "slug",
    registration: str = "invite",
    statements: Sequence[Statement] = (),
    actor: str | None = None,
) -> Account:
    """Write a new account.

    Args:
        name, slug: checked ones. slug None: derived from the name, numbered when it is taken.
        field: what the slug is called in the request, for the error.
        statements: what is to commit with it, e.g. its first user.

    Raises:
        SlugTaken: the given slug is taken; besides, whatever `statements` raise.
    """
    taken: SlugTaken | None = None
    for candidate in [slug] if slug is not None else _candidates(slug_from(name)):
        message = "Another account has this slug."
        taken = SlugTaken(message, details=[FieldError(field=field, message=message, code="slug_taken")])
        account = Account(
            id=account_id,
            account_code="",
            slug=candidate,
            name=name,
            registration=registration,
            created_at=at,
            updated_at=at,
        )
        founding = system.insert_account(account, error=taken)
        try:
            await store.write(Transaction(account_id=account_id, actor=actor, statements=(founding, *statements)))
        except SlugTaken:
            continue
        written = await system.find_account(store, account_id)
        assert written is not None  # noqa: S101 - it was committed just now, and accounts are never deleted
        return written
    assert taken is not None  # noqa: S101 - there is at least one candidate
    raise taken


def _candidates(slug: str) -> Iterator[str]:
    yield slug
    for number in range(2, 6):
        yield f"{slug}-{number}"
    # Common names do not cost a long search: chance finds a free one at once.
    for _ in range(3):
        yield f"{slug}-{token_hex(3)}"
