"""What Schemathesis has to be told: how JSON lines look. Loaded by it (SCHEMATHESIS_HOOKS)."""

import json

import schemathesis
from hypothesis import strategies as st

_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_LINES = st.dictionaries(st.sampled_from(["id", "title", "views", "created_at", "x"]), _VALUES).map(json.dumps)
_NONSENSE = st.binary(max_size=50)

schemathesis.openapi.media_type(
    "application/x-ndjson",
    st.lists(_LINES.map(str.encode) | _NONSENSE, max_size=5).map(b"\n".join),
)
