"""Retries decided, messages signed."""

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from classifier import parse_secret, verify
from classifier.alerts import MessageId
from classifier.delivery import SCHEDULE, Dead, Delivered, Outcome, Result, RetryAt, RetryPolicy, next_step, sign

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
POLICY = RetryPolicy()
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def _wait(step: object) -> float:
    assert isinstance(step, RetryAt)
    return (step.at - NOW).total_seconds()


@pytest.mark.parametrize(
    ("attempts", "outcome", "wait"),
    [
        pytest.param(1, Outcome(result=Result.UNREACHABLE), 5, id="first-wait"),
        pytest.param(2, Outcome(result=Result.REFUSED, status=500), 300, id="second-wait"),
        pytest.param(9, Outcome(result=Result.REFUSED, status=500), 86_400, id="last-wait"),
        pytest.param(1, Outcome(result=Result.REFUSED, status=429), 60, id="floor-on-429"),
        pytest.param(1, Outcome(result=Result.TIMEOUT), 60, id="floor-on-timeout"),
        pytest.param(
            1, Outcome(result=Result.REFUSED, status=503, retry_after=dt.timedelta(seconds=90)), 90, id="retry-after"
        ),
        pytest.param(
            4,
            Outcome(result=Result.REFUSED, status=429, retry_after=dt.timedelta(seconds=1)),
            7_200,
            id="never-earlier",
        ),
        pytest.param(
            1, Outcome(result=Result.REFUSED, status=429, retry_after=dt.timedelta(days=99)), 21_600, id="capped"
        ),
    ],
)
def test_next_step_waits_as_the_schedule_says(attempts: int, outcome: Outcome, wait: float) -> None:
    """Longer when the receiver is overloaded or asks for it, never shorter."""
    assert _wait(next_step(POLICY, attempts, outcome, NOW, 0.0)) == wait


def test_next_step_ends() -> None:
    """2xx is delivered; after the last wait the message is dead. In all it was tried ten times over 75.6 hours."""
    failed = Outcome(result=Result.REFUSED, status=500)

    assert next_step(POLICY, 1, Outcome(result=Result.DELIVERED, status=200), NOW, 0.0) == Delivered()
    assert next_step(POLICY, len(SCHEDULE) + 1, failed, NOW, 0.0) == Dead()
    assert sum(SCHEDULE, dt.timedelta()).total_seconds() == pytest.approx(75.6 * 3600, rel=0.01)


@given(
    st.integers(1, len(SCHEDULE)),
    st.sampled_from([r for r in Result if r is not Result.DELIVERED]),
    st.one_of(st.none(), st.timedeltas(dt.timedelta(0))),
    st.floats(-1, 1),
)
def test_next_step_is_always_later_and_never_beyond_a_day(
    attempts: int, result: Result, retry_after: dt.timedelta | None, jitter: float
) -> None:
    """Whatever happened, the next try is in the future and in sight."""
    wait = _wait(next_step(POLICY, attempts, Outcome(result=result, retry_after=retry_after), NOW, jitter))

    assert 0 < wait <= 86_400 * 1.2


@given(st.binary(max_size=200), st.text("abc_0123", min_size=1))
def test_sign_is_verified_by_the_reference_library(body: bytes, name: str) -> None:
    """Standard Webhooks' own code accepts the signature, and ours agrees with it."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - the library reads the clock
    signed = json.dumps({"body": body.hex()}).encode()
    headers = sign([KEY], MessageId(name), now, signed)

    assert Webhook(SECRET).verify(signed, headers) == {"body": body.hex()}
    assert verify(KEY, headers.get, signed, now)


def test_sign_is_right_for_any_time_zone() -> None:
    """The timestamp is the instant, however it is written."""
    east = NOW.astimezone(dt.timezone(dt.timedelta(hours=8)))

    assert sign([KEY], MessageId("m"), east, b"x") == sign([KEY], MessageId("m"), NOW, b"x")


def test_two_keys_sign_side_by_side() -> None:
    """While a secret is being changed both the old and the new one verify."""
    new = bytes(32)
    headers = sign([KEY, new], MessageId("m"), NOW, b"x")

    assert verify(KEY, headers.get, b"x", NOW)
    assert verify(new, headers.get, b"x", NOW)


@pytest.mark.parametrize(
    ("change", "body", "later_s"),
    [
        pytest.param({}, b"y", 0, id="other-body"),
        pytest.param({"webhook-id": "n"}, b"x", 0, id="other-id"),
        pytest.param({"webhook-timestamp": "1"}, b"x", 0, id="other-time"),
        pytest.param({"webhook-timestamp": "now"}, b"x", 0, id="no-time"),
        pytest.param({"webhook-signature": "v1,"}, b"x", 0, id="empty-signature"),
        pytest.param({"webhook-signature": "v1,\u00e9"}, b"x", 0, id="odd-signature"),
        pytest.param({}, b"x", 301, id="too-old"),
        pytest.param({}, b"x", -301, id="from-the-future"),
    ],
)
def test_verify_refuses_what_was_not_signed_just_now(change: dict[str, str], body: bytes, later_s: int) -> None:
    """Any change, and any replay after five minutes, fails."""
    headers = sign([KEY], MessageId("m"), NOW, b"x") | change

    assert not verify(KEY, headers.get, body, NOW + dt.timedelta(seconds=later_s))


def test_reference_library_refuses_a_changed_body() -> None:
    """The verifier used all over these tests can fail."""
    headers = sign([KEY], MessageId("m"), dt.datetime.now(dt.UTC), b'{"a":1}')  # noqa: TID251

    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(b'{"a":2}', headers)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("whsec_!!!", "a secret is whsec_ followed by base64"),
        ("whsec_" + base64.b64encode(b"short").decode(), "a secret has 24 to 64 bytes, this one has 5"),
        ("", "this one has 0"),
    ],
)
def test_parse_secret_refuses_weak_or_malformed_ones_without_repeating_them(secret: str, message: str) -> None:
    """The text of the error is safe to log."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_secret(secret)

    assert len(secret) < 7 or secret not in str(caught.value)
