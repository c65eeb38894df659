"""Who may manage what: superadmins everything, an account's admins what is in their account, keys no keys.

Owns these refusals and the account that a request is about. Promises that nobody but a superadmin learns whether
another account exists.
"""

from snackbase.errors import Forbidden, NotFound, SnackBaseError
from snackbase.model import SYSTEM_ACCOUNT_ID, Account, Principal
from snackbase.services.identity import invalid
from snackbase.storage.base import Store
from snackbase.storage.system import find_account

ADMIN_ROLE, USER_ROLE = (1, "admin"), (2, "user")


def require_superadmin(principal: Principal) -> None:
    """Raises Forbidden."""
    if not principal.superadmin:
        raise Forbidden("Only users of the system account may do this.")


def require_admin(principal: Principal) -> None:
    """An admin of the account acted in, or a superadmin. Raises Forbidden."""
    if not principal.superadmin and principal.role != ADMIN_ROLE[1]:
        raise Forbidden("Only admins of the account may do this.")


def require_user(principal: Principal) -> None:
    """Raises Forbidden (key_restricted): what would let a stolen key outlive its revocation needs a login."""
    if principal.kind == "api_key":
        raise Forbidden("API keys are restricted: this needs a user who is logged in.", code="key_restricted")


def manages(principal: Principal, account_id: str) -> bool:
    """Whether something of this account is the principal's to manage, given that they are an admin."""
    return principal.superadmin or principal.account_id == account_id


async def managed_account(store: Store, principal: Principal, reference: str | None) -> Account:
    """The account that a request names, or the one acted in.

    Raises:
        Forbidden: another account than one's own. ValidationFailed: account_id: there is no such account.
    """
    found = await find_account(store, reference or principal.account_id)
    if not principal.superadmin and (found is None or found.id != principal.account_id):
        raise Forbidden("This user does not belong to the named account.")
    if found is None:
        raise invalid("account_id", "There is no such account.", "account_not_found")
    return found


async def listed_account(store: Store, principal: Principal, reference: str | None) -> str | None:
    """The id of the account whose things are listed; None = of all, for superadmins who name none and act in none."""
    if reference is None and principal.superadmin and principal.account_id == SYSTEM_ACCOUNT_ID:
        return None
    return (await managed_account(store, principal, reference)).id


def require_named(principal: Principal, reference: str | None, message: str) -> None:
    """A superadmin has to name the account, by header or in the body: in the system account it would mean too much.

    Raises:
        ValidationFailed: account_id required.
    """
    if reference is None and principal.account_id == SYSTEM_ACCOUNT_ID:
        raise invalid("account_id", message, "required")


def no_user() -> SnackBaseError:
    return NotFound("There is no such user.", code="user_not_found")
