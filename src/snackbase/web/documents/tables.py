"""All tables of operations as one, and what their stand-ins stand for."""

from collections import ChainMap
from collections.abc import Mapping

from snackbase.web.documents import collections, membership, people, realtime, records, server
from snackbase.web.documents.operation import Operation, Operations, Schema

_ALL: tuple[dict[tuple[str, str], Operation], ...] = tuple(
    dict(module.OPERATIONS) for module in (records, collections, people, membership, realtime, server)
)
OPERATIONS: Operations = ChainMap(*_ALL)
STAND_INS: Mapping[type[object], Schema] = {**collections.SCHEMAS, **membership.SCHEMAS}
