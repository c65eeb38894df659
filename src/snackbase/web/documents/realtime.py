"""What the HTTP routes of realtime take and give. Messages are AsyncAPI's to describe (messages.py)."""

from snackbase.hub.explain import Explained
from snackbase.hub.polling import MOST_EVENTS
from snackbase.web.changes import DEFAULT_LIMIT
from snackbase.web.documents.messages import EVENT
from snackbase.web.documents.operation import FLAG, TEXT, Operation, Operations, Parameter, array_of, object_of
from snackbase.web.explain import Question

TAG = "realtime"
NAMES = {"type": "array", "items": TEXT}
_SINCE = Parameter("since", TEXT, "A position: what came after it.")

OPERATIONS: Operations = {
    ("GET", "/api/v1/realtime/changes"): Operation(
        summary="Changes after a position, for programs that poll",
        tag=TAG,
        query=(
            Parameter("collection", NAMES, "The collections; * for all that you may list."),
            _SINCE,
            Parameter("filter", TEXT, "As in a subscription; with one collection only."),
            Parameter("fields", TEXT),
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST_EVENTS, "default": DEFAULT_LIMIT}),
        ),
        answer=object_of({"events": array_of(EVENT), "position": TEXT, "has_more": FLAG}),
        errors=(410,),
    ),
    ("POST", "/api/v1/realtime/explain"): Operation(
        summary="Why a change did or did not arrive, for administrators", tag=TAG, body=Question, answer=Explained
    ),
    ("GET", "/api/v1/realtime/subscribe"): Operation(
        summary="Server-Sent Events; /asyncapi.json describes the messages",
        tag=TAG,
        query=(
            Parameter("token", TEXT, "An access token or an API key, where no header can be set."),
            Parameter("collection", NAMES, "posts, posts:create,update or *."),
            Parameter("collections", NAMES, "Another spelling of collection."),
            Parameter("subscription", NAMES, "What a subscribe message holds, as JSON."),
            _SINCE,
            Parameter("account", TEXT, "For superadmins: the account to watch."),
        ),
        answer=TEXT,
        media_type="text/event-stream",
        errors=(429,),
    ),
    ("GET", "/api/v1/realtime/ws"): Operation(
        summary="The WebSocket; /asyncapi.json describes it. A plain GET is refused",
        tag=TAG,
        query=(Parameter("token", TEXT), Parameter("account", TEXT)),
        status=101,
        access="open",
        errors=(401, 403, 404, 426, 429),
    ),
}
