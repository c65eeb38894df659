"""Owns: the one stored form of dates and times (contract section 1), in which comparing texts compares moments.

Promises: `normal_datetime` gives `YYYY-MM-DDTHH:MM:SS.mmmZ`, `normal_date` gives `YYYY-MM-DD`, both None for what is
neither; neither raises.
Must not: ask for the present time.
On the path: literals of rules at compile time.
"""

import re
from datetime import UTC, date, datetime

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2})(?:(:[0-9]{2})(?:[.,]([0-9]{1,9}))?)?([Zz]|[+-][0-9]{2}:?[0-9]{2})?)?"
)


def normal_datetime(text: str) -> str | None:
    """RFC 3339, a date alone (midnight UTC) or a time without an offset (UTC); finer than milliseconds is cut off.

    Source: RFC 3339 section 5.6. A leap second (`:60`) is refused, as Python's datetime has none.
    """
    match = _DATETIME.fullmatch(text)
    if match is None:
        return None
    day, minute, second, fraction, offset = match.groups()
    millisecond = (fraction or "").ljust(3, "0")[:3]
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}{second or ':00'}.{millisecond}{zone}")
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
    except (ValueError, OverflowError):
        return None


def normal_date(text: str) -> str | None:
    """The text itself when it is a day of the calendar as `YYYY-MM-DD`."""
    if _DATE.fullmatch(text) is None:
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None
