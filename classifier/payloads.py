"""
Alerts, and what is told of endpoints, as bytes: the JSON a receiver gets.

Keeps: the result is valid JSON in valid UTF-8 whatever the article holds, at most `MAX_BYTES` long, with control
characters and bidirectional overrides taken out of everything that came from the article. The bytes made here are the
bytes signed and sent.
"""

import datetime as dt
import json
import re
from collections.abc import Mapping
from typing import Any

from classifier.alerts import ALERT_TYPE, Alert, Evidence, tag_record
from classifier.article import Article

MAX_BYTES = 20_000  # the size the Standard Webhooks specification advises
_MAX_TITLE = 500
_MAX_NAME = 255
# Control characters, invisible ones, bidirectional overrides, line and paragraph ends, tags, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]+"
)


def render(alert: Alert) -> bytes:
    """
    Return the Standard Webhooks envelope of *alert*: ``{"type", "timestamp", "data"}``.

    A title is cut after 500 characters; evidence is shortened, sentence by sentence from the weakest tag on, until the
    whole is at most `MAX_BYTES`, and if that is not enough the weakest tags are left out; ``data.truncated`` says so.
    """
    evidence = {label: _evidence_record(item) for label, item in alert.evidence.items()}
    is_cut = len(_clean(alert.article.title)) > _MAX_TITLE
    body = _encode(_envelope(alert, evidence, truncated=is_cut))
    while len(body) > MAX_BYTES and _drop_weakest(evidence):
        body = _encode(_envelope(alert, evidence, truncated=True))
    n_tags = len(alert.match.reasons)
    while len(body) > MAX_BYTES and n_tags > 1:  # hundreds of tags: the strongest of each facet
        n_tags //= 2
        body = _encode(_envelope(alert, {}, truncated=True, n_tags=n_tags))
    return body


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
    data = {"endpoint": endpoint_id, "before": before, "state": state, "reason": _clean(reason, _MAX_TITLE), **facts}
    return _encode({"type": f"endpoint.{state}", "timestamp": timestamp(now), "data": data})


def timestamp(moment: dt.datetime) -> str:
    """Return *moment* as RFC 3339 in UTC, to the second."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def article_record(article: Article) -> dict[str, object]:
    """Return what an alert says of an article."""
    return {
        "id": article.id,
        "title": _clean(article.title, _MAX_TITLE),
        "date": article.date.isoformat() if article.date else None,
        "source": _clean(article.publisher, _MAX_NAME) or None,
        "file_name": _clean(article.source, _MAX_NAME),
    }


def _envelope(
    alert: Alert, evidence: dict[str, dict[str, Any]], *, truncated: bool, n_tags: int | None = None
) -> dict[str, object]:
    rule = alert.match.rule
    return {
        "type": ALERT_TYPE,
        "timestamp": timestamp(alert.created_at),
        "data": {
            "rule": {"id": rule.id, "version": rule.version},
            "article": article_record(alert.article),
            "tags": {facet: [tag_record(tag) for tag in tags[:n_tags]] for facet, tags in alert.tags.by_facet.items()},
            "matched": [tag.label for tag in alert.match.reasons[:n_tags]],
            "evidence": evidence,
            "model": alert.model,
            "truncated": truncated,
        },
    }


def _evidence_record(evidence: Evidence) -> dict[str, Any]:
    return {
        "sentences": [
            {"text": _clean(quote.text), "start": quote.start, "end": quote.end} for quote in evidence.quotes
        ],
        "terms": [{"term": _clean(term), "weight": weight} for term, weight in evidence.terms],
        "against": [{"term": _clean(term), "weight": weight} for term, weight in evidence.against],
    }


def _drop_weakest(evidence: dict[str, dict[str, Any]]) -> bool:
    """Take one sentence, or else the terms, from the last of the labels that have most; False when nothing is left."""
    most = max((len(record["sentences"]) for record in evidence.values()), default=0)
    for record in reversed(evidence.values()):
        if most and len(record["sentences"]) == most:
            record["sentences"].pop()
            return True
        if not most and (record["terms"] or record["against"]):
            record["terms"], record["against"] = [], []
            return True
    return False


def _clean(text: str, limit: int | None = None) -> str:
    flat = _UNSAFE.sub(" ", text).strip()
    return flat if limit is None or len(flat) <= limit else flat[: limit - 1].rstrip() + "\u2026"


def _encode(envelope: dict[str, object]) -> bytes:
    return json.dumps(envelope, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
