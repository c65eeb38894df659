"""What the routes of invitations, roles, groups and API keys take and give."""

from collections.abc import Mapping

from snackbase.model import User
from snackbase.services.api_keys import ApiKey
from snackbase.services.invitations import Invitation, PublicInvitation
from snackbase.storage.invitations import STATUSES
from snackbase.storage.roles import Group, Role
from snackbase.web.api_keys import PATH as KEYS
from snackbase.web.api_keys import ApiKeyBody
from snackbase.web.documents.operation import (
    INTEGER,
    MESSAGE,
    TEXT,
    Operation,
    Operations,
    Parameter,
    Schema,
    array_of,
    object_of,
    page_of,
)
from snackbase.web.documents.people import PAGE, USERS_WANTED, WELCOME
from snackbase.web.invitations import AcceptanceBody, InvitationBody
from snackbase.web.roles import GroupBody, MemberBody, NamedChangeBody, RoleBody

INVITATIONS = "/api/v1/invitations"
ROLES = "/api/v1/roles"
ROLE = ROLES + "/{role_id}"
GROUPS = "/api/v1/groups"
GROUP = GROUPS + "/{group_id}"

_ACCOUNT = Parameter("account_id", TEXT, "For superadmins: whose.")
_CHANGE_ROLE = Operation(summary="Change a role", tag="roles", body=NamedChangeBody, answer=Role, errors=(409,))
_CHANGE_GROUP = Operation(summary="Change a group", tag="groups", body=NamedChangeBody, answer=Group, errors=(409,))


class ShownInvitation:
    """Stands for an invitation; `token` only where there is one to show."""


_SHOWN = object_of(
    {
        **{
            name: TEXT for name in ("id", "email", "account_id", "invited_by", "expires_at", "created_at", "updated_at")
        },
        "role_id": INTEGER,
        "groups": array_of(TEXT),
        "status": {"enum": list(STATUSES)},
        "token": TEXT,
    },
    required=tuple(name for name in Invitation.__struct_fields__ if name != "token"),
)
SCHEMAS: Mapping[type[object], Schema] = {ShownInvitation: _SHOWN}

OPERATIONS: Operations = {
    ("GET", INVITATIONS): Operation(
        summary="A page of invitations",
        tag="invitations",
        query=(_ACCOUNT, Parameter("status_filter", {"enum": list(STATUSES)}), *PAGE),
        answer=object_of({"invitations": array_of(ShownInvitation), "total": INTEGER}),
        errors=(422,),
    ),
    ("POST", INVITATIONS): Operation(
        summary="Invite somebody; pass the token on yourself",
        tag="invitations",
        body=InvitationBody,
        answer=ShownInvitation,
        status=201,
        errors=(409,),
    ),
    ("GET", INVITATIONS + "/{token}"): Operation(
        summary="What the holder of the token may know",
        tag="invitations",
        answer=PublicInvitation,
        access="open",
        errors=(404,),
    ),
    ("DELETE", INVITATIONS + "/{invitation_id}"): Operation(
        summary="Withdraw an invitation", tag="invitations", status=204, errors=(410,)
    ),
    ("POST", INVITATIONS + "/{invitation_id}/resend"): Operation(
        summary="A new token for an invitation",
        tag="invitations",
        answer={"allOf": [ShownInvitation, MESSAGE]},
        errors=(409, 410),
    ),
    ("POST", INVITATIONS + "/{token}/accept"): Operation(
        summary="Join with a password",
        tag="invitations",
        body=AcceptanceBody,
        answer=WELCOME,
        status=201,
        access="open",
        errors=(404, 409, 410, 429),
    ),
    ("GET", ROLES): Operation(summary="All roles", tag="roles", answer=page_of(Role)),
    ("POST", ROLES): Operation(
        summary="Make a role", tag="roles", body=RoleBody, answer=Role, status=201, errors=(409,)
    ),
    ("GET", ROLE): Operation(summary="One role", tag="roles", answer=Role),
    ("PUT", ROLE): _CHANGE_ROLE,
    ("PATCH", ROLE): _CHANGE_ROLE,
    ("DELETE", ROLE): Operation(summary="Delete a role that nobody has", tag="roles", status=204, errors=(409,)),
    ("GET", GROUPS): Operation(
        summary="A page of groups",
        tag="groups",
        query=(_ACCOUNT, Parameter("search", TEXT, "Part of a name."), *PAGE),
        answer=page_of(Group, page=INTEGER, page_size=INTEGER),
        errors=(422,),
    ),
    ("POST", GROUPS): Operation(
        summary="Make a group", tag="groups", body=GroupBody, answer=Group, status=201, errors=(409,)
    ),
    ("GET", GROUP): Operation(summary="One group", tag="groups", answer=Group),
    ("PUT", GROUP): _CHANGE_GROUP,
    ("PATCH", GROUP): _CHANGE_GROUP,
    ("DELETE", GROUP): Operation(summary="Delete a group", tag="groups", status=204, errors=(409,)),
    ("GET", GROUP + "/users"): Operation(
        summary="A page of a group's users", tag="groups", query=USERS_WANTED, answer=page_of(User), errors=(422,)
    ),
    ("POST", GROUP + "/users"): Operation(
        summary="Put a user into a group", tag="groups", body=MemberBody, status=204, errors=(409,)
    ),
    ("DELETE", GROUP + "/users/{user_id}"): Operation(
        summary="Take a user out of a group", tag="groups", status=204, errors=(409,)
    ),
    ("GET", KEYS): Operation(
        summary="A page of API keys",
        tag="api keys",
        query=(_ACCOUNT, Parameter("offset", {"type": "integer", "minimum": 0}, "Another word for skip."), *PAGE),
        answer=page_of(ApiKey),
        errors=(422,),
    ),
    ("POST", KEYS): Operation(
        summary="Create an API key; it is shown only here",
        tag="api keys",
        body=ApiKeyBody,
        answer=ApiKey,
        status=201,
        errors=(409,),
    ),
    ("GET", KEYS + "/{key_id}"): Operation(summary="One API key, masked", tag="api keys", answer=ApiKey),
    ("DELETE", KEYS + "/{key_id}"): Operation(summary="Revoke an API key", tag="api keys", status=204, errors=(409,)),
}
