"""realtime/position.py: positions are opaque, canonical, and bound to account, row and history."""

import re
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snackbase.model import Position
from snackbase.realtime.position import MAX_SEQ, Positions

POSITIONS = Positions("abc123")


@given(st.integers(0, MAX_SEQ), st.integers(0, 2**60), st.integers(0, 2**40))
def test_a_position_is_at_most_128_safe_characters_and_reads_back(seq: int, ts_us: int, version: int) -> None:
    token = POSITIONS.token("account", Position(seq, ts_us, version))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", token)
    parsed = POSITIONS.parse(token)
    assert parsed is not None
    assert (parsed.epoch, parsed.seq, parsed.version) == ("abc123", seq, version)
    assert parsed.check == POSITIONS.check("account", Position(seq, ts_us, version))


def test_the_check_differs_for_another_account_another_row_another_time_and_another_version() -> None:
    checks = {
        POSITIONS.check("a", Position(7, 1000, 3)),
        POSITIONS.check("b", Position(7, 1000, 3)),
        POSITIONS.check("a", Position(8, 1000, 3)),
        POSITIONS.check("a", Position(7, 1001, 3)),
        POSITIONS.check("a", Position(7, 1000, 4)),
    }
    assert len(checks) == 5


def test_an_account_knows_its_own_positions_and_nobody_elses() -> None:
    token = POSITIONS.parse(POSITIONS.token("a", Position(7, 1000, 3)))

    assert token is not None
    assert [POSITIONS.foreign(account, token) for account in ("a", "b")] == [False, True]


def test_a_position_of_the_former_form_is_still_honoured_for_its_own_row_alone() -> None:
    check = blake2b(b"a.7.1000", digest_size=5).hexdigest()
    token = POSITIONS.parse(f"abc123.7.{check}.3")

    assert token is not None
    assert not POSITIONS.foreign("a", token)
    assert POSITIONS.stands("a", token, 1000)
    assert not POSITIONS.stands("a", token, 1001)
    assert not POSITIONS.stands("b", token, 1000)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_without_an_error(text: str) -> None:
    parsed = POSITIONS.parse(text)
    assert parsed is None or 0 <= parsed.seq <= MAX_SEQ


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc123",
        "abc123.1.c",
        "abc123.1.c.1.x",
        "abc123.01.cccc.1",
        "abc123.Z.cccc.1",
        "abc123.-1.cccc.1",
        "abc123.zzzzzzzzzzzzz.cccc.1",
        "abc 23.1.cccc.1",
        "abc123.1..1",
        "abc123.\u0661.cccc.1",
        "a" * 129,
    ],
)
def test_only_the_canonical_spelling_is_a_position(text: str) -> None:
    assert POSITIONS.parse(text) is None


@pytest.mark.parametrize("epoch", ["", "a.b", "ä", "a" * 33])
def test_an_epoch_that_would_break_the_token_is_refused(epoch: str) -> None:
    with pytest.raises(ValueError, match="epoch"):
        Positions(epoch)
