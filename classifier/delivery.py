"""
How a message is signed, and what becomes of it after a try.

Hides: the Standard Webhooks signature and the retry schedule.
Keeps: pure decisions; clock and jitter are passed in. Every message ends delivered or dead, after finitely many tries.

Signature: Standard Webhooks, https://www.standardwebhooks.com (scheme v1: HMAC-SHA256 over ``id.timestamp.body``).
"""

import base64
import binascii
import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from classifier.alerts import MessageId

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix every such secret has
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
TOLERANCE_S = 300  # how old or how new a timestamp a receiver accepts
_OVERLOADED = frozenset({429, 502, 503, 504})

# Standard Webhooks' own table: 75.6 hours in all.
SCHEDULE = tuple(dt.timedelta(seconds=s) for s in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """
    One alert for one endpoint, ready to send.

    Attributes:
        id: the ``webhook-id``; never changes.
        endpoint_id: where it goes.
        rule_id: which rule wanted it.
        body: the bytes signed and sent; never change.
    """

    id: MessageId
    endpoint_id: str
    rule_id: str
    body: bytes


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    When to try again.

    Attributes:
        schedule: waits between tries; after the last one the message is dead.
        jitter: each wait is changed by up to this share, so that messages do not come back in step.
        overload_floor: shortest wait after a timeout or an answer that says "too much".
        retry_after_cap: a receiver cannot make us wait longer than this.
    """

    schedule: tuple[dt.timedelta, ...] = SCHEDULE
    jitter: float = 0.2
    overload_floor: dt.timedelta = dt.timedelta(seconds=60)
    retry_after_cap: dt.timedelta = dt.timedelta(hours=6)


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
        return Dead()
    wait = policy.schedule[attempts - 1] * (1 + policy.jitter * jitter)
    if outcome.result is Result.TIMEOUT or outcome.status in _OVERLOADED:
        wait = max(wait, policy.overload_floor)
    if outcome.retry_after is not None:
        wait = max(wait, min(outcome.retry_after, policy.retry_after_cap))
    return RetryAt(now + wait)


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
