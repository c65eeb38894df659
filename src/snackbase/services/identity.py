"""The forms of what names people and tenants: e-mails, passwords, slugs, names. Pure.

Owns what is accepted and the one form it is kept in, so that two spellings never become two users. Must not look
anything up.
"""

import re
import unicodedata

from snackbase.auth import MAX_PASSWORD_CHARS
from snackbase.errors import FieldError, ValidationFailed

MIN_PASSWORD_CHARS = 8
MAX_EMAIL_CHARS = 254
"""RFC 5321 §4.5.3.1.3, less the angle brackets."""
MAX_NAME_CHARS = 100
MOST_MARKS = 4
"""What is written decomposed has at most so many characters for one (U+1F82 and its like)."""
MAX_DESCRIPTION_CHARS = 1000
MAX_GROUPS = 100
MAX_GROUP_CHARS = 100

_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{1,64}@[^\W_](?:[\w.-]*[^\W_])?\Z")
_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])\Z")
_LIKE_A_CODE = re.compile(r"[a-z]{2}[0-9]{4}\Z")
_LIKE_AN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def invalid(field: str, message: str, code: str = "invalid") -> ValidationFailed:
    """The refusal of one field."""
    return ValidationFailed(f"{field}: {message}", details=[FieldError(field=field, message=message, code=code)])


def normal_email(text: str) -> str:
    """The form e-mails are stored and compared in: without surrounding space, in lower case, composed.

    What is too long for one is cut and nobody's: putting a long run of accents in order takes time that grows with the
    square of its length (half a minute for a body of 1 MB), and anybody may send one.
    """
    text = text.strip()
    if len(text) > MOST_MARKS * MAX_EMAIL_CHARS:
        return text[: MOST_MARKS * MAX_EMAIL_CHARS]
    return unicodedata.normalize("NFC", text.lower())


def checked_email(text: str, *, field: str = "email") -> str:
    """Raises ValidationFailed. Whether mail arrives there is nobody's to know; local names without a dot are fine."""
    email = normal_email(text)
    if len(email) > MAX_EMAIL_CHARS or not _EMAIL.match(email) or ".." in email:
        raise invalid(field, f"Not an e-mail address of at most {MAX_EMAIL_CHARS} characters.", "invalid_email")
    return email


def check_password(password: str, *, email: str, field: str = "password") -> None:
    """Length is what counts (NIST SP 800-63B §5.1.1.2); raises ValidationFailed."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise invalid(field, f"At least {MIN_PASSWORD_CHARS} characters are needed.", "too_short")
    if len(password) > MAX_PASSWORD_CHARS:
        raise invalid(field, f"At most {MAX_PASSWORD_CHARS} characters are possible.", "too_long")
    if normal_email(password) == email or len(set(password)) == 1:
        raise invalid(field, "This password is too easy to guess.", "too_weak")


def checked_name(text: str, *, field: str = "name") -> str:
    name = text.strip()
    if len(name) <= MOST_MARKS * MAX_NAME_CHARS:  # as in `normal_email`
        name = unicodedata.normalize("NFC", name)
    if not 1 <= len(name) <= MAX_NAME_CHARS or _CONTROL.search(name):
        raise invalid(field, f"1 to {MAX_NAME_CHARS} characters on one line are needed.", "invalid_name")
    return name


def checked_slug(text: str, *, field: str = "slug") -> str:
    slug = text.strip().lower()
    if not _SLUG.match(slug):
        raise invalid(field, "2 to 63 letters a-z, digits and inner hyphens are needed.", "invalid_slug")
    # An account is found by slug, code or id alike: none may be mistaken for another.
    if _LIKE_A_CODE.match(slug) or _LIKE_AN_ID.match(slug):
        raise invalid(field, "It looks like an account's code or id.", "invalid_slug")
    return slug


def slug_from(name: str) -> str:
    """A slug that resembles a name; `account` when nothing of it can be spelled with a-z and 0-9."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].rstrip("-")
    if not _SLUG.match(slug) or _LIKE_A_CODE.match(slug) or _LIKE_AN_ID.match(slug):
        return f"account-{slug}".rstrip("-")
    return slug


def checked_description(text: str, *, field: str = "description") -> str:
    if len(text) > MAX_DESCRIPTION_CHARS:
        raise invalid(field, f"At most {MAX_DESCRIPTION_CHARS} characters are possible.", "too_long")
    return text


def checked_group(name: str, *, field: str) -> str:
    """A group's name, kept as it is given: rules compare it with values of records."""
    if not 1 <= len(name) <= MAX_GROUP_CHARS or _CONTROL.search(name):
        raise invalid(field, f"A group's name has 1 to {MAX_GROUP_CHARS} characters on one line.", "invalid_group")
    return name


def checked_groups(groups: list[str], *, field: str = "groups") -> tuple[str, ...]:
    """Names of groups, each once, in the order given."""
    if len(groups) > MAX_GROUPS:
        raise invalid(field, f"At most {MAX_GROUPS} groups are possible.", "too_many")
    return tuple(dict.fromkeys(checked_group(group, field=field) for group in groups))
