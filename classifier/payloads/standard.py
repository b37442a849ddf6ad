"""The JSON of a Standard Webhooks message: everything there is to say, for programs."""

import json
from typing import Any

from classifier.alerts import ALERT_TYPE, DIGEST_TYPE
from classifier.payloads.notices import Digest, Notice, digest_record, notice_record, timestamp

MAX_BYTES = 20_000  # the size the Standard Webhooks specification advises


def compose(notice: Notice) -> dict[str, Any]:
    """Return the envelope of an alert: ``{"type", "timestamp", "data"}``."""
    return {"type": ALERT_TYPE, "timestamp": timestamp(notice.created_at), "data": notice_record(notice)}


def compose_digest(digest: Digest) -> dict[str, Any]:
    """Return the envelope of a digest."""
    return {"type": DIGEST_TYPE, "timestamp": timestamp(digest.until), "data": digest_record(digest)}


def fits(payload: object) -> bool:
    """Say whether *payload* is at most `MAX_BYTES` long."""
    return len(encode(payload)) <= MAX_BYTES


def encode(payload: object) -> bytes:
    """Return compact JSON in UTF-8: the bytes signed and sent."""
    return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
