"""
How a message is signed, and what becomes of it and of its endpoint after a try.

Hides: the Standard Webhooks signature, the retry schedule, the rate limit, and when an endpoint is given up.
Keeps: pure decisions; clock and jitter are passed in. Every message ends delivered or dead, after finitely many tries,
unless its endpoint is disabled.

Two things are decided after each try. What becomes of the message: `next_step`. What becomes of the endpoint:
`next_health`, which pauses it when it asks to be left alone, and disables it when it says that it is gone or has done
nothing but fail for days. A disabled endpoint keeps its messages; a person enables it.

Signature: Standard Webhooks, https://www.standardwebhooks.com (scheme v1: HMAC-SHA256 over ``id.timestamp.body``).
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from classifier.alerts import MessageId

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix every such secret has
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
TOLERANCE_S = 300  # how old or how new a timestamp a receiver accepts
MAX_KEYS = 10  # of one endpoint
KEY_OVERLAP = dt.timedelta(hours=24)  # how long an older key signs beside the current one
_OVERLOADED = frozenset({429, 502, 503, 504})
_LEAVE_ALONE = frozenset({429, 503})  # said of the endpoint as a whole, not of one message
_CLOCK_SLACK = dt.timedelta(seconds=60)  # clocks of several machines, and one that was set back, differ by less
_ROUNDING_S = 1e-6  # clocks count microseconds
_GONE = 410
_CONFIG_STATUSES = frozenset({400, 401, 403, 404, 405, 406, 411, 413, 414, 415, 422})

# Standard Webhooks' own table: 75.6 hours in all.
SCHEDULE = tuple(dt.timedelta(seconds=s) for s in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    One alert for one endpoint, ready to send.

    Attributes:
        id: the ``webhook-id``; never changes.
        endpoint_id: where it goes.
        rule_id: which rule wanted it; None for what we tell of an endpoint or of ourselves.
        body: the bytes signed and sent; never change.
        not_before: aware, UTC: it waits until then; None when it need not.
    """

    id: MessageId
    endpoint_id: str
    rule_id: str | None
    body: bytes
    not_before: dt.datetime | None = None


class Result(StrEnum):
    """What one try came to."""

    DELIVERED = "delivered"
    REFUSED = "refused"  # an answer other than 2xx
    REDIRECTED = "redirected"  # not followed: it could lead anywhere
    BLOCKED_ADDRESS = "blocked_address"  # the name resolved to an address we do not post to
    UNRESOLVED = "unresolved"
    UNREACHABLE = "unreachable"
    TLS_FAILED = "tls_failed"
    TIMEOUT = "timeout"
    BROKEN_REPLY = "broken_reply"


_CONFIG_RESULTS = frozenset({Result.REDIRECTED, Result.BLOCKED_ADDRESS, Result.TLS_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """
    The answer to one try; trouble is a value here, not an exception.

    Attributes:
        result: which kind.
        status: HTTP status where there was one.
        retry_after: how long the receiver asked us to wait.
        detail: one line for people, without address or secret.
    """

    result: Result
    status: int | None = None
    retry_after: dt.timedelta | None = None
    detail: str = ""

    @property
    def is_likely_config(self) -> bool:
        """Say whether trying again will not help until somebody changes a setting, here or at the receiver."""
        return self.status in _CONFIG_STATUSES or self.result in _CONFIG_RESULTS


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again, not before `at` (aware, UTC)."""

    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up; a person has to decide."""


Step = Delivered | RetryAt | Dead


class EndpointState(StrEnum):
    """How an endpoint does; each change of it is told."""

    WORKING = "working"
    FAILING = "failing"  # several tries in a row failed, or one in a way that only a change of settings helps
    GIVING_UP = "giving_up"  # and messages have died of it
    DISABLED = "disabled"  # nothing is sent until somebody enables it; its messages wait


_BADNESS = list(EndpointState)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """
    What is remembered of one endpoint. All instants are aware, in UTC.

    Attributes:
        state: how it does.
        reason: why, one line for people; empty as long as nothing ever changed.
        changed_at: when the state changed last; None when it never did.
        failures: tries that failed since the last success, without a long break in between.
        failing_since: the first of these.
        failed_at: the last of these.
        delivered_at: the last success.
        paused_until: it asked, at `failed_at`, to be left alone until then.
    """

    state: EndpointState = EndpointState.WORKING
    reason: str = ""
    changed_at: dt.datetime | None = None
    failures: int = 0
    failing_since: dt.datetime | None = None
    failed_at: dt.datetime | None = None
    delivered_at: dt.datetime | None = None
    paused_until: dt.datetime | None = None

    def is_closed(self, now: dt.datetime) -> bool:
        """Return whether nothing is to be posted at *now*; a pause from before a clock was set back does not count."""
        is_paused = self.paused_until is not None and now < self.paused_until
        has_failed = self.failed_at is not None and self.failed_at <= now + _CLOCK_SLACK
        return self.state is EndpointState.DISABLED or (is_paused and has_failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    When to try again, and when to stop asking an endpoint.

    Attributes:
        schedule: waits between tries; after the last one the message is dead.
        jitter: each wait is changed by up to this share, so that messages do not come back in step.
        overload_floor: shortest wait after a timeout or an answer that says "too much".
        retry_after_cap: a receiver cannot make us wait longer than this.
        disable_after: an endpoint that did nothing but fail for so long is disabled.
        failing_after: so many failed tries in a row are told of.
        quiet: an endpoint that flaps is called failing at most once in this time.
    """

    schedule: tuple[dt.timedelta, ...] = SCHEDULE
    jitter: float = 0.2
    overload_floor: dt.timedelta = dt.timedelta(seconds=60)
    retry_after_cap: dt.timedelta = dt.timedelta(hours=6)
    disable_after: dt.timedelta = dt.timedelta(hours=120)
    failing_after: int = 4
    quiet: dt.timedelta = dt.timedelta(hours=1)

    @property
    def longest_silence(self) -> dt.timedelta:
        """Return the break between two failures after which they are not one failure that lasts."""
        return max(dt.timedelta(hours=48), 2 * max(self.schedule, default=dt.timedelta()))


def next_step(policy: RetryPolicy, attempts: int, outcome: Outcome, now: dt.datetime, jitter: float) -> Step:
    """
    Decide what becomes of a message.

    Args:
        policy: the schedule.
        attempts: tries made, this one included; at least 1.
        outcome: what this try came to.
        now: aware, UTC.
        jitter: in [-1, 1]; the caller draws it.
    """
    if outcome.result is Result.DELIVERED:
        return Delivered()
    if attempts > len(policy.schedule):
        if outcome.status != _GONE:
            return Dead()
        attempts = len(policy.schedule)  # the endpoint is gone, for now: nothing is wrong with the message
    wait = policy.schedule[attempts - 1] * (1 + policy.jitter * jitter)
    if outcome.result is Result.TIMEOUT or outcome.status in _OVERLOADED:
        wait = max(wait, policy.overload_floor)
    if outcome.retry_after is not None:
        wait = max(wait, min(outcome.retry_after, policy.retry_after_cap))
    return RetryAt(now + wait)


def next_health(
    policy: RetryPolicy, health: EndpointHealth, outcome: Outcome, step: Step, now: dt.datetime
) -> EndpointHealth:
    """
    Decide what becomes of an endpoint.

    Args:
        policy: the limits.
        health: what was known before this try.
        outcome: what this try came to.
        step: what became of the message.
        now: aware, UTC.
    """
    if outcome.result is Result.DELIVERED:
        well = replace(health, failures=0, failing_since=None, failed_at=None, delivered_at=now, paused_until=None)
        is_back = health.state in {EndpointState.FAILING, EndpointState.GIVING_UP}
        return _changed(well, EndpointState.WORKING, "it takes messages again", now) if is_back else well
    lasts = (
        health.failing_since is not None
        and health.failed_at is not None
        and now - health.failed_at <= policy.longest_silence
    )
    since = health.failing_since if lasts and health.failing_since else now
    failed = replace(
        health,
        failures=health.failures + 1 if lasts else 1,
        failing_since=since,
        failed_at=now,
        paused_until=_pause(policy, outcome, now),
    )
    state, reason = _judged(policy, failed, outcome, step, now - since)
    if _BADNESS.index(state) <= _BADNESS.index(health.state):
        return failed
    flaps = health.changed_at is not None and dt.timedelta(0) <= now - health.changed_at < policy.quiet
    if state is not EndpointState.DISABLED and health.state is EndpointState.WORKING and flaps:
        return failed
    return _changed(failed, state, reason, now)


def _judged(
    policy: RetryPolicy, failed: EndpointHealth, outcome: Outcome, step: Step, lasted: dt.timedelta
) -> tuple[EndpointState, str]:
    if outcome.status == _GONE:
        return EndpointState.DISABLED, "it answered 410 Gone"
    if lasted >= policy.disable_after:
        hours = policy.disable_after / dt.timedelta(hours=1)
        return EndpointState.DISABLED, f"nothing but failures for {hours:g} h, last: {outcome.detail}"
    if isinstance(step, Dead):
        return EndpointState.GIVING_UP, f"a message is dead after its last try: {outcome.detail}"
    if outcome.is_likely_config:
        return EndpointState.FAILING, f"likely_config: {outcome.detail}"
    if failed.failures >= policy.failing_after:
        return EndpointState.FAILING, f"{failed.failures} tries failed in a row, last: {outcome.detail}"
    return EndpointState.WORKING, ""


def enabled(health: EndpointHealth, reason: str, now: dt.datetime) -> EndpointHealth:
    """Return *health* with nothing held against the endpoint any more; unchanged when nothing was."""
    clear = replace(health, failures=0, failing_since=None, failed_at=None, paused_until=None)
    return clear if health.state is EndpointState.WORKING else _changed(clear, EndpointState.WORKING, reason, now)


def disabled(health: EndpointHealth, reason: str, now: dt.datetime) -> EndpointHealth:
    """Return *health* with the endpoint disabled; unchanged when it is already."""
    return health if health.state is EndpointState.DISABLED else _changed(health, EndpointState.DISABLED, reason, now)


def _changed(health: EndpointHealth, state: EndpointState, reason: str, now: dt.datetime) -> EndpointHealth:
    return replace(health, state=state, reason=reason, changed_at=now)


def _pause(policy: RetryPolicy, outcome: Outcome, now: dt.datetime) -> dt.datetime | None:
    if outcome.retry_after is None and outcome.status not in _LEAVE_ALONE:
        return None
    return now + max(policy.overload_floor, min(outcome.retry_after or dt.timedelta(0), policy.retry_after_cap))


@dataclass(frozen=True, slots=True)
class Rate:
    """
    How often an endpoint may be tried: a token bucket, whose level is one instant, so that a ledger can keep it.

    Attributes:
        per_s: tries per second over time, above 0.
        burst: tries at once after a pause, at least 1.
    """

    per_s: float
    burst: int

    def wait_s(self, used_until: dt.datetime | None, now: dt.datetime) -> float:
        """
        Return the seconds to wait before a try may be made; 0 when it may be made at *now*.

        Args:
            used_until: what `count` gave for the last try; None before the first.
            now: aware, UTC.
        """
        ahead_s = (self._level(used_until, now) - now).total_seconds()
        wait_s = ahead_s - (self.burst - 1) / self.per_s
        return wait_s if wait_s > _ROUNDING_S else 0.0

    def spread_s(self, n: int, wait_s: float) -> float:
        """
        Return over how many seconds *n* tries, at least one, are spread at least.

        Args:
            n: how many.
            wait_s: what `wait_s` gives for the first of them.
        """
        return wait_s + (n - 1) / self.per_s if wait_s else max(0, n - self.burst) / self.per_s

    def count(self, used_until: dt.datetime | None, now: dt.datetime) -> dt.datetime:
        """Return until when the rate is used up after one more try at *now*."""
        return self._level(used_until, now) + dt.timedelta(seconds=1 / self.per_s)

    def _level(self, used_until: dt.datetime | None, now: dt.datetime) -> dt.datetime:
        """Return until when the rate is used up; *now* when it is not, or when a clock was set back since."""
        most = now + dt.timedelta(seconds=self.burst / self.per_s) + _CLOCK_SLACK
        return used_until if used_until is not None and now < used_until <= most else now


# -- signatures ------------------------------------------------------------------------------------------------------


def parse_secret(secret: str) -> bytes:
    """
    Return the key of a ``whsec_...`` secret.

    Raises:
        ValueError: not base64, or not 24 to 64 bytes; the text does not repeat the secret.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        message = f"a secret is {SECRET_PREFIX} followed by base64"
        raise ValueError(message) from None  # the cause would repeat the secret
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        message = f"a secret has {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, this one has {len(key)}"
        raise ValueError(message)
    return key


def sign(keys: Sequence[bytes], message_id: MessageId, sent_at: dt.datetime, body: bytes) -> dict[str, str]:
    """Return the Standard Webhooks headers of one try, with one signature per key; without a key there is none."""
    seconds = int(sent_at.timestamp())
    headers = {"webhook-id": message_id, "webhook-timestamp": str(seconds)}
    if keys:
        headers["webhook-signature"] = " ".join(f"v1,{_signature(key, message_id, seconds, body)}" for key in keys)
    return headers


def fingerprint(key: bytes) -> str:
    """Return what a key is recognised by in the ledger: 16 hex digits that say nothing about the key."""
    return hashlib.sha256(b"classifier signing key\0" + key).hexdigest()[:16]


def verify(key: bytes, headers: Callable[[str], str | None], body: bytes, now: dt.datetime) -> bool:
    """
    Say whether *body* was signed with *key* and is recent.

    Args:
        key: from `parse_secret`.
        headers: looks a header up by its lower-case name.
        body: the bytes received, unchanged.
        now: the receiver's clock; timestamps more than `TOLERANCE_S` away are refused.
    """
    message_id, seconds = headers("webhook-id") or "", headers("webhook-timestamp") or ""
    if not seconds.isascii() or not seconds.isdigit() or abs(now.timestamp() - int(seconds)) > TOLERANCE_S:
        return False
    expected = _signature(key, message_id, int(seconds), body)
    given = (headers("webhook-signature") or "").split()
    return any(hmac.compare_digest(f"v1,{expected}".encode(), item.encode("utf-8", "replace")) for item in given)


def _signature(key: bytes, message_id: str, seconds: int, body: bytes) -> str:
    signed = b".".join((message_id.encode(), str(seconds).encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
