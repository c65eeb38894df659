"""The forms of what names people: one form for every spelling, and bounded work for what is no name at all."""

import unicodedata

import pytest

from snackbase.errors import ValidationFailed
from snackbase.services.identity import MAX_EMAIL_CHARS, checked_email, checked_name, normal_email

MARKS = "e" + "\u0301\u0316" * 250_000
"""Accents in the wrong order, as many as a body holds: putting them in order took the server half a minute."""


def test_an_email_is_the_same_however_its_letters_are_composed() -> None:
    composed = "J\u00f6rg.\u01d8@b\u00fccher.example"
    assert normal_email(f" {unicodedata.normalize('NFD', composed)} ") == normal_email(composed) == composed.lower()
    assert checked_email(unicodedata.normalize("NFD", composed)) == composed.lower()


def test_what_is_far_too_long_for_an_email_is_cut_before_anything_is_done_with_it() -> None:
    assert MAX_EMAIL_CHARS < len(normal_email(MARKS)) <= 4 * MAX_EMAIL_CHARS
    with pytest.raises(ValidationFailed, match="at most 254 characters"):
        checked_email(MARKS)


def test_a_name_may_be_decomposed_but_not_without_end() -> None:
    assert checked_name(unicodedata.normalize("NFD", "\u1f82" * 100)) == "\u1f82" * 100
    with pytest.raises(ValidationFailed, match="1 to 100 characters"):
        checked_name(MARKS)
