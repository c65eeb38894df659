"""The one form of times: comparing the texts compares the moments (contract section 1)."""

import pytest

from snackbase.rules import normal_date, normal_datetime


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("2026-01-17", "2026-01-17T00:00:00.000Z"),
        ("2026-01-17T12:34:56Z", "2026-01-17T12:34:56.000Z"),
        ("2026-01-17t12:34:56.7z", "2026-01-17T12:34:56.700Z"),
        ("2026-01-17 12:34:56.789999999", "2026-01-17T12:34:56.789Z"),
        ("2026-01-17T12:34:56,5Z", "2026-01-17T12:34:56.500Z"),
        ("2026-01-17T12:34", "2026-01-17T12:34:00.000Z"),
        ("2026-01-17T00:30:00+01:00", "2026-01-16T23:30:00.000Z"),
        ("2026-01-17T00:30:00-0130", "2026-01-17T02:00:00.000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:59-01:00", None),
        ("2024-02-29", "2024-02-29T00:00:00.000Z"),
        ("2026-02-29", None),
        ("2026-01-17T24:00:00Z", None),
        ("2026-01-17T12:34:60Z", None),
        ("2026-01-17T12:34.5Z", None),
        ("2026-01-17T12Z", None),
        ("2026-01-17Z", None),
        ("2026-1-17", None),
        ("20260117", None),
        ("2026-W03-6", None),
        ("٢٠٢٦-01-17", None),
        ("2026-01-17T12:34:56+25:00", None),
        (" 2026-01-17", None),
        ("2026-01-17\n", None),
        ("", None),
    ],
)
def test_a_datetime_has_one_form(text: str, normal: str | None) -> None:
    assert normal_datetime(text) == normal
    assert normal is None or normal_datetime(normal) == normal


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2026-01-17", True),
        ("2024-02-29", True),
        ("2026-02-29", False),
        ("0000-01-01", False),
        ("2026-1-17", False),
        ("20260117", False),
        ("2026-01-17T00:00:00Z", False),
        ("2026-01-17\n", False),
    ],
)
def test_a_date_is_a_day_of_the_calendar(text: str, *, valid: bool) -> None:
    assert normal_date(text) == (text if valid else None)
