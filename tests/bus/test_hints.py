"""Hints as bytes: what comes out is what went in, and nobody without the secret can make one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from snackbase.bus.hints import FORMAT, MAC_BYTES, Hints, Refused, changes_of
from snackbase.model import Change, Op
from tests.bus.support import change

SECRET = b"s" * 32
values = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.integers(-(2**70), 2**70),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def one_way(*changes: Change, version: int = 7) -> list[Change]:
    sender, receiver = Hints(SECRET, node="n1"), Hints(SECRET, node="n2")
    heard: list[Change] = []
    for message in sender.pack("e1", version, changes):
        hint = receiver.unpack(message, "e1")
        assert hint.version == version
        heard += changes_of(hint)
    return heard


def refused(message: bytes, *, lineage: str = "e1", secret: bytes = SECRET, node: str = "n2") -> str:
    with pytest.raises(Refused) as refusal:
        changes_of(Hints(secret, node=node).unpack(message, lineage))
    return refusal.value.word


def test_a_change_is_heard_as_it_was_told() -> None:
    told = change(5, title="Ä \u2028 \0", price=1.5)
    assert one_way(told) == [told]


def test_an_update_and_a_control_row_are_heard_as_they_were_told() -> None:
    [updated] = one_way(replace(change(6), op=Op.UPDATE, prev={"title": None, "n": 2**53}))
    assert (updated.op, updated.prev) == (Op.UPDATE, {"title": None, "n": 2**53})
    [control] = one_way(replace(change(7), op=Op.CONTROL, collection_id=""))
    assert control.op is Op.CONTROL


def test_many_changes_are_told_in_messages_that_are_small_enough_and_in_order() -> None:
    told = [change(seq, text="x" * 700) for seq in range(1, 301)]
    messages = list(Hints(SECRET, node="n1").pack("e1", 1, told))
    assert len(messages) > 3
    assert max(map(len, messages)) < 65 << 10
    assert one_way(*told) == told


def test_what_is_too_large_is_told_as_a_number() -> None:
    told = [change(1), change(2, text="x" * 70_000), change(3)]
    receiver = Hints(SECRET, node="n2")
    hints = [receiver.unpack(message, "e1") for message in Hints(SECRET, node="n1").pack("e1", 1, told)]
    assert [(hint.head, len(hint.rows)) for hint in hints] == [(1, 1), (2, 0), (3, 1)]


def test_a_change_of_rules_is_told_as_its_version() -> None:
    hint = Hints(SECRET, node="n2").unpack(Hints(SECRET, node="n1").pack_version("e1", 9), "e1")
    assert (hint.account_id, hint.version) == ("", 9)


def test_a_hint_of_another_secret_another_history_or_oneself_is_refused() -> None:
    [message] = Hints(SECRET, node="n1").pack("e1", 1, [change(1)])
    assert refused(message, secret=b"t" * 32) == "forged"
    assert refused(message, lineage="e2") == "foreign"
    assert refused(message, node="n1") == "own"


def test_no_byte_of_a_hint_can_be_changed() -> None:
    [message] = Hints(SECRET, node="n1").pack("e1", 1, [change(1)])
    for at in range(len(message)):
        changed = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
        assert refused(changed) == ("malformed" if at < len(FORMAT) else "forged")


def test_a_hint_that_is_signed_but_makes_no_sense_is_refused() -> None:
    hints = Hints(SECRET, node="n1")
    for body in (b"", b"\xc1", b"\x93\x01\x02\x03"):
        assert refused(FORMAT + hints._mac(body) + body) == "malformed"
    [message] = hints.pack("e1", 1, [replace(change(1), raw=b"{")])
    assert refused(message) == "malformed"


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_hint_or_refused(message: bytes) -> None:
    assert refused(message) in ("malformed", "forged")
    assert refused(FORMAT + b"\0" * MAC_BYTES + message) in ("malformed", "forged")


@given(st.dictionaries(st.text(), values, max_size=5))
def test_values_come_back_equal(data: dict[str, object]) -> None:
    told = change(1, data=data)
    [heard] = one_way(told)
    assert heard.raw == told.raw
