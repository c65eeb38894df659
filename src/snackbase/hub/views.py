"""What a principal may see through one subscription: rule, filter and fields become a `View`.

The one place where realtime asks for rights, and it asks what a list asks: `list_rule` and `list_fields`, exactly as
GET /records does (contract §2). Parts of a rule that speak only of the principal are decided here, once; so members of
an account under the default rule share one group, and only what really differs tells groups apart.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from snackbase.catalog import Catalog, Definition, auth_of
from snackbase.model import SYSTEM_FIELDS, Principal
from snackbase.realtime import protocol
from snackbase.realtime.fanout import OPERATION_BITS
from snackbase.realtime.groups import IndexedOn, View
from snackbase.realtime.protocol import EVERY_COLLECTION, ProtocolError, SubscribeRequest
from snackbase.realtime.session import Subscription
from snackbase.rules import (
    Auth,
    Kind,
    Rule,
    RuleError,
    bound,
    check,
    conjunction,
    conjuncts,
    constant,
    parse,
    predicate,
    searches,
    tie,
)

_SAME_ACCOUNT = check(parse("account_id = @request.auth.account_id"), {"account_id": Kind.TEXT})
"""True for every record of a feed, which is one account's: no reason to tell groups apart or to judge."""
_SHORT = frozenset(SYSTEM_FIELDS)
_NOWHERE = IndexedOn("id", ())
"""Of a view that shows nothing: no change is even a candidate."""


def subscription_of(
    catalog: Catalog, principal: Principal, request: SubscribeRequest, unnamed: frozenset[str]
) -> Subscription:
    """Judge a request.

    Args:
        unnamed: ids of collections with an unnamed subscription on the same connection, which take precedence over `*`.

    Raises:
        ProtocolError: collection_not_found, forbidden, invalid_filter, invalid_fields.
    """
    bits = sum(OPERATION_BITS[name] for name in set(request.operations or protocol.OPERATIONS))
    auth = auth_of(principal)
    if request.collection == EVERY_COLLECTION:
        subscription = Subscription(request, EVERY_COLLECTION, bits)
        views = [
            _view(definition, principal, auth, request, subscription)
            for definition in catalog.all()
            if definition.collection.id not in unnamed and _listable(definition, principal)
        ]
    else:
        definition = catalog.by_name(request.collection)
        if definition is None:
            raise ProtocolError("collection_not_found", "There is no such collection.", collection=request.collection)
        if not _listable(definition, principal):
            raise ProtocolError(
                "forbidden", "You may not list the records of this collection.", collection=request.collection
            )
        subscription = Subscription(request, definition.collection.id, bits)
        views = [_view(definition, principal, auth, request, subscription)]
    subscription.views = {view.collection_id: view for view in views}
    return subscription


def _listable(definition: Definition, principal: Principal) -> bool:
    """A locked list rule is the superadmins' alone."""
    return principal.superadmin or definition.rule("list") is not None


def _view(
    definition: Definition, principal: Principal, auth: Auth, request: SubscribeRequest, subscription: Subscription
) -> View:
    every = request.collection == EVERY_COLLECTION
    readable = definition.readable(principal, "list")
    fields = _fields(definition, request, readable, every=every)
    rule = None if principal.superadmin else definition.rule("list")
    wanted = _filter(definition, request, readable, every=every)
    if wanted is not None and not every:
        subscription.searches = searches(wanted, _SHORT)
    both = _together(rule, wanted)
    # Not `|=` alone: that makes a new set for each of ten thousand who subscribe to the same.
    subscription.claims = subscription.claims | both.claims if subscription.claims else both.claims
    whole = bound(both, auth)
    # Under `*` one collection that hides a field the filter names must not keep the others from being followed.
    hidden = wanted is not None and readable is not None and not wanted.fields <= readable
    known = False if hidden else constant(whole, auth)
    collection = definition.collection
    return View(
        collection_id=collection.id,
        collection=collection.name,
        key=(collection.id, "false" if hidden else whole.text, fields),
        sees=None if known is True else _nothing if known is False else predicate(whole, auth),
        names=definition.names,
        fields=fields,
        index=_NOWHERE if known is False else _index(whole),
    )


@lru_cache(maxsize=1024)
def _together(rule: Rule | None, wanted: Rule | None) -> Rule:
    """What must be true, whoever asks; made once for all of them, since a changed rule has everybody judged anew."""
    asked = conjunction(one for one in (rule, wanted) if one is not None)
    return conjunction(part for part in conjuncts(asked) if part.text != _SAME_ACCOUNT.text)


def _nothing(record: Mapping[str, Any]) -> bool:
    return False


def _index(rule: Rule) -> IndexedOn | None:
    """What ties a field to this subscription: then the events of others cost its group nothing."""
    found = tie(rule)
    return IndexedOn(found.field, found.values, elements=found.elements) if found is not None else None


def _filter(
    definition: Definition, request: SubscribeRequest, readable: frozenset[str] | None, *, every: bool
) -> Rule | None:
    if not request.filter:
        return None
    allowed = frozenset(SYSTEM_FIELDS) if every else readable
    try:
        return definition.filter(request.filter, allowed)
    except RuleError as error:
        raise ProtocolError("invalid_filter", str(error), collection=request.collection) from None


def _fields(
    definition: Definition, request: SubscribeRequest, readable: frozenset[str] | None, *, every: bool
) -> tuple[str, ...] | None:
    """The fields its events show, in the collection's order, `id` first; None = all of them."""
    asked = protocol.field_names(request.fields)
    if asked is None and readable is None:
        return None
    allowed = frozenset(SYSTEM_FIELDS) if every else readable
    for name in asked or ():
        if name not in definition.kinds or (allowed is not None and name not in allowed):
            raise ProtocolError(
                "invalid_fields", f"{name[:64]!r} is not a field you may read here.", collection=request.collection
            )
    wanted = set(definition.kinds) if asked is None else set(asked)
    if readable is not None:
        wanted &= readable
    return ("id", *(name for name in definition.kinds if name in wanted and name != "id"))
