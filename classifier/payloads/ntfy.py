"""
ntfy: a message published as JSON.

JSON is posted to the server's address without a topic, which is in the message instead; title, priority, tags and link
need no headers then, and a title may hold any letter. Markdown is switched off.

Limits: https://docs.ntfy.sh/publish/#limitations: 4,096 bytes of message, a longer one becomes an attachment.
"""

from typing import Any

from classifier.payloads.summaries import Digest, Summary
from classifier.payloads.text import cut, n_bytes
from classifier.payloads.wording import digest_heading, digest_lines, lines

MAX_MESSAGE_BYTES, MAX_TITLE_BYTES, MAX_TAGS = 4_096, 250, 5
_MAX_LINE_BYTES = 800
_NORMAL, _LOW = 3, 2  # with and without a sound

Payload = dict[str, Any]


def compose(summary: Summary, topic: str) -> Payload:
    """Return the message of an alert."""
    is_sure, _ = summary.strength
    payload = _message(topic, summary.heading, lines(summary)) | {
        "priority": _NORMAL if is_sure else _LOW,
        "tags": [tag.label for tag in summary.reasons[:MAX_TAGS]],
    }
    return payload | ({"click": summary.link} if summary.link else {})


def compose_digest(digest: Digest, topic: str) -> Payload:
    """Return the message of a digest."""
    return _message(topic, digest_heading(digest), digest_lines(digest)) | {"priority": _NORMAL}


def compose_note(heading: str, lines: list[str], topic: str) -> Payload:
    """Return the message of a few plain lines."""
    return _message(topic, heading, lines or [heading]) | {"priority": _NORMAL}


def fits(payload: Payload) -> bool:
    """Say whether the message stays a message."""
    return n_bytes(payload["message"]) <= MAX_MESSAGE_BYTES


def _message(topic: str, title: str, text: list[str]) -> Payload:
    shown = "\n".join(cut(line, _MAX_LINE_BYTES, measure=n_bytes) for line in text)
    return {
        "topic": topic,
        "title": cut(title, MAX_TITLE_BYTES, measure=n_bytes),
        "message": shown,
        "markdown": False,
    }
