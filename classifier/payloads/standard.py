"""The JSON of a Standard Webhooks message: everything there is to say, for programs."""

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from classifier.alerts import ALERT_TYPE, DIGEST_TYPE
from classifier.payloads.summaries import MAX_TITLE, Digest, Summary, digest_record, summary_record, timestamp
from classifier.payloads.text import clean

MAX_BYTES = 20_000  # the size the Standard Webhooks specification advises


def compose(summary: Summary) -> dict[str, Any]:
    """Return the envelope of an alert: ``{"type", "timestamp", "data"}``."""
    return {"type": ALERT_TYPE, "timestamp": timestamp(summary.created_at), "data": summary_record(summary)}


def compose_digest(digest: Digest) -> dict[str, Any]:
    """Return the envelope of a digest."""
    return {"type": DIGEST_TYPE, "timestamp": timestamp(digest.until), "data": digest_record(digest)}


def render_notice(
    endpoint_id: str, *, before: str, state: str, reason: str, facts: Mapping[str, object], now: dt.datetime
) -> bytes:
    """
    Return the envelope that tells of an endpoint's change of state, ``{"type": "endpoint.<state>", ...}``.

    Args:
        endpoint_id: which one.
        before: the state it was in.
        state: the state it is in now.
        reason: why, one line.
        facts: more entries of ``data``; JSON values.
        now: aware, UTC.
    """
    data = {"endpoint": endpoint_id, "before": before, "state": state, "reason": clean(reason, MAX_TITLE), **facts}
    return encode({"type": f"endpoint.{state}", "timestamp": timestamp(now), "data": data})


def fits(payload: object) -> bool:
    """Say whether *payload* is at most `MAX_BYTES` long."""
    return len(encode(payload)) <= MAX_BYTES


def encode(payload: object) -> bytes:
    """Return compact JSON in UTF-8: the bytes signed and sent."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
