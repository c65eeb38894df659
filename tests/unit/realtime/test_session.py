"""realtime/session.py: deadlines and limits of one client, exact because the time comes in."""

import json
from typing import Any

from snackbase import errors
from snackbase.model import Principal
from snackbase.realtime.session import MISTAKES, Session, State, Timing

from .test_fanout import WIRE

TIMING = Timing(
    heartbeat_s=30, ping_s=25, pong_s=10, auth_s=10, messages_per_s=1, message_burst=3, max_subscriptions=100
)
WHO = Principal(kind="user", account_id="a", actor_id="u")


def session(*, expires_at: float = float("inf")) -> Session:
    made = Session("s", WIRE, stages=False, now=0.0, timing=TIMING)
    made.authenticated(WHO, expires_at)
    return made


def messages(made: Session) -> list[dict[str, Any]]:
    return [json.loads(line[line.index(b"{") :]) for line in b"".join(made.out).splitlines()]


def test_a_client_that_sends_no_token_in_time_is_ended() -> None:
    made = Session("s", WIRE, stages=False, now=0.0, timing=TIMING)
    assert made.state is State.AUTHENTICATING
    assert made.tick(9.9, 0.0) is None
    assert made.tick(10.0, 0.0) is errors.AUTH_TIMEOUT


def test_expiry_is_warned_of_once_60_s_before_and_ends_the_connection_at_exp() -> None:
    made = session(expires_at=1000.0)
    assert made.tick(0.0, 939.0) is None
    assert made.out == ()
    assert made.tick(1.0, 940.0) is None
    assert made.tick(2.0, 941.0) is None
    (warning,) = messages(made)
    assert (warning["type"], warning["status"], warning["expires_at"]) == (
        "auth",
        "expiring",
        "1970-01-01T00:16:40.000Z",
    )
    assert made.tick(3.0, 1000.0) is errors.TOKEN_EXPIRED


def test_a_fresh_token_moves_the_end_and_warns_again() -> None:
    made = session(expires_at=1000.0)
    made.tick(0.0, 950.0)
    made.renew(2000.0)
    assert made.tick(1.0, 1000.0) is None
    made.tick(2.0, 1950.0)
    assert len(messages(made)) == 2


def test_a_heartbeat_is_due_after_80_to_100_percent_of_the_interval_also_when_busy() -> None:
    made = session()
    made.beaten(0.0, TIMING, 0.0)
    assert not made.heartbeat_due(23.9)
    made.send(b"{}")
    assert made.heartbeat_due(24.0)
    made.beaten(0.0, TIMING, 1.0)
    assert not made.heartbeat_due(29.9)
    assert made.heartbeat_due(30.0)


def test_an_unanswered_ping_ends_the_connection_and_an_answered_one_does_not() -> None:
    made = session()
    assert not made.ping_due(24.0, TIMING)
    assert made.ping_due(25.0, TIMING)
    assert not made.ping_due(26.0, TIMING)
    assert made.tick(34.9, 0.0) is None
    assert made.tick(35.0, 0.0) is errors.HEARTBEAT_TIMEOUT
    made.ponged()
    assert made.tick(36.0, 0.0) is None


def test_too_many_messages_are_refused_and_too_many_mistakes_in_a_row_end_the_connection() -> None:
    made = session()
    assert [made.accept(0.0, TIMING) for _ in range(4)] == [None, None, None, errors.RATE_LIMITED]
    assert [made.mistake() for _ in range(MISTAKES)] == [None] * (MISTAKES - 1) + [errors.BAD_REQUEST]
    made.understood()
    assert made.mistake() is None


def test_the_next_look_is_the_earliest_deadline() -> None:
    made = session()
    assert made.next_look(0.0, 0.0, pings=True) == 25.0
    assert made.next_look(0.0, 0.0, pings=False) == 30.0
    made.renew(70.0)
    assert made.next_look(0.0, 0.0, pings=True) == 10.0
    made.tick(10.0, 10.0)
    made.renew(12.0)
    assert made.next_look(10.0, 10.0, pings=True) == 10.0
