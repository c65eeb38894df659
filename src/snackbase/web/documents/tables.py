"""All tables of operations as one, and what their stand-ins stand for."""

from collections import ChainMap

from snackbase.web.documents import collections, people, realtime, records, server
from snackbase.web.documents.operation import Operation, Operations

_ALL: tuple[dict[tuple[str, str], Operation], ...] = tuple(
    dict(module.OPERATIONS) for module in (records, collections, people, realtime, server)
)
OPERATIONS: Operations = ChainMap(*_ALL)
STAND_INS = collections.SCHEMAS
