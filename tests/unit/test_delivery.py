"""Retries decided, messages signed."""

import base64
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from javascript import JsVerifier
from standardwebhooks import Webhook, WebhookVerificationError

from classifier import parse_secret, verify
from classifier.alerts import MessageId
from classifier.delivery import (
    SCHEDULE,
    Dead,
    Delivered,
    EndpointHealth,
    EndpointState,
    Outcome,
    Rate,
    Result,
    RetryAt,
    RetryPolicy,
    Step,
    disabled,
    enabled,
    fingerprint,
    next_health,
    next_step,
    sign,
)

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


_OUTCOMES = st.builds(
    Outcome,
    result=st.sampled_from(list(Result)),
    status=st.none() | st.sampled_from([200, 400, 404, 410, 429, 500, 503]),
    retry_after=st.none() | st.timedeltas(dt.timedelta(0), dt.timedelta(days=200)),
    detail=st.just("x"),
)
_STEPS = st.sampled_from([Delivered(), RetryAt(NOW), Dead()])


@given(st.lists(st.tuples(_OUTCOMES, _STEPS, st.integers(-100_000, 1_000_000)), max_size=40))
def test_next_health_keeps_its_promises_whatever_happens(tries: list[tuple[Outcome, Step, int]]) -> None:
    """
    A disabled endpoint stays so; a success clears what was held against the others; a pause is bounded; a change of
    state has a time and a reason.
    """
    health, now = EndpointHealth(), NOW
    for outcome, step, seconds in tries:
        now += dt.timedelta(seconds=seconds)
        before, health = health, next_health(POLICY, health, outcome, step, now)

        if before.state is EndpointState.DISABLED:
            assert health.state is EndpointState.DISABLED
        elif outcome.result is Result.DELIVERED:
            assert (health.state, health.failures, health.failing_since) == (EndpointState.WORKING, 0, None)
            assert (health.paused_until, health.delivered_at) == (None, now)
        else:
            assert health.failures >= 1
            assert health.failed_at == now
            assert health.state is EndpointState.DISABLED or outcome.status != 410
        assert health.paused_until is None or health.paused_until - now <= POLICY.retry_after_cap
        if health.state is not before.state:
            assert health.changed_at == now
            assert health.reason


def test_enabled_and_disabled_change_what_needs_it_and_nothing_else() -> None:
    """Twice is once; enabling forgets failures and pauses also where the state stays."""
    off = disabled(EndpointHealth(failures=3, failing_since=NOW), "by hand", NOW)
    later = NOW + dt.timedelta(hours=1)

    assert (off.state, off.reason, off.changed_at, off.failures) == (EndpointState.DISABLED, "by hand", NOW, 3)
    assert disabled(off, "again", later) == off
    on = enabled(off, "by hand", later)
    assert (on.state, on.changed_at, on.failures, on.failing_since) == (EndpointState.WORKING, later, 0, None)
    assert enabled(on, "again", NOW) == on
    assert enabled(EndpointHealth(paused_until=later), "by hand", NOW) == EndpointHealth()


@given(
    st.floats(0.01, 1_000),
    st.integers(1, 50),
    st.lists(st.floats(-10, 100), min_size=1, max_size=100),
)
def test_rate_limit_allows_no_more_than_burst_and_rate(rate: float, burst: int, pauses: list[float]) -> None:
    """However the calls are spread and the clock jumps; the wait it tells is enough."""
    limit, now, forward, taken, jumps, wait = Rate(rate, burst), NOW, 0.0, 0, 0, 0.0
    used_until: dt.datetime | None = None
    for pause in pauses:
        now += dt.timedelta(seconds=pause)
        forward += max(pause, 0.0)
        jumps += pause < 0
        while not (wait := limit.wait_s(used_until, now)):
            used_until = limit.count(used_until, now)
            taken += 1
            assert taken <= burst * (1 + jumps) + forward * rate + 3e-3 * len(pauses)
        assert 0 < wait <= 1 / rate + 60 + 1e-6
    now += dt.timedelta(seconds=wait + 1e-6)
    assert limit.wait_s(used_until, now) == 0


@given(rate=st.floats(0.01, 1_000), burst=st.integers(1, 50), n=st.integers(1, 100), is_used=st.booleans())
def test_rate_says_over_how_long_tries_are_spread(rate: float, burst: int, n: int, *, is_used: bool) -> None:
    """From a full burst, and from one that is used up."""
    limit, now = Rate(rate, burst), NOW
    used_until: dt.datetime | None = None
    while is_used and not limit.wait_s(used_until, now):
        used_until = limit.count(used_until, now)
    said_s = limit.spread_s(n, limit.wait_s(used_until, now))
    for _ in range(n):
        now += dt.timedelta(seconds=limit.wait_s(used_until, now))
        used_until = limit.count(used_until, now)

    assert (now - NOW).total_seconds() == pytest.approx(said_s, abs=3e-3 * n)


def test_fingerprint_tells_keys_apart_and_says_nothing_of_them() -> None:
    """16 hex digits."""
    assert fingerprint(KEY) != fingerprint(bytes(32))
    assert len(fingerprint(KEY)) == 16
    assert fingerprint(KEY) not in KEY.hex()


@given(st.binary(max_size=200), st.text("abc_0123", min_size=1))
def test_sign_is_verified_by_the_reference_library(body: bytes, name: str) -> None:
    """Standard Webhooks' own code accepts the signature, and ours agrees with it."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - the library reads the clock
    signed = json.dumps({"body": body.hex()}).encode()
    headers = sign([KEY], MessageId(name), now, signed)

    assert Webhook(SECRET).verify(signed, headers) == {"body": body.hex()}
    assert verify(KEY, headers.get, signed, now)


def test_w13_the_reference_library_of_another_language_verifies_too(standardwebhooks_js: JsVerifier) -> None:
    """Either signature of a rotation is accepted, and what was changed is refused, as by its Python sister."""
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 - the library reads the clock
    old, new = KEY, bytes(range(100, 164))
    body = json.dumps({"text": "caf\u00e9 \u65b0\u80fd\u6e90 \u2028 \U0001f50b"}, ensure_ascii=False).encode()
    both, late = (sign([new, old], MessageId("msg_1"), moment, body) for moment in (now, now - dt.timedelta(minutes=6)))
    cases = [
        (old, both, body),
        (new, both, body),
        (bytes(32), both, body),
        (old, both, body + b" "),
        (old, both | {"webhook-id": "msg_2"}, body),
        (old, late, body),
    ]

    assert standardwebhooks_js(cases) == [True, True, False, False, False, False]
    assert [_verifies(*case) for case in cases] == [True, True, False, False, False, False]


def _verifies(key: bytes, headers: dict[str, str], body: bytes) -> bool:
    try:
        Webhook(base64.b64encode(key).decode()).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


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
